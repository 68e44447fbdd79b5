"""
Everything that is watched of one process, held together: its metrics, and what other processes ask about them.

Theory of operation. Whoever wants metrics (a port, a page, the parent of several workers) asks for them, and then Redis
is asked, at most once a second, what has become of the deployments.

Invariant: nothing here is called on the way of a request.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import refuse_error
from redisai_engine.errors import EngineError
from redisai_engine.execution.figures import Place
from redisai_engine.redis.address import Address
from redisai_engine.service.engine import Engine, Question
from redisai_engine.watching.catalog import entries, note
from redisai_engine.watching.health import Health
from redisai_engine.watching.history import Counts, History, added, merged, now_in_seconds
from redisai_engine.watching.measuring import Samples, as_json, measured
from redisai_engine.watching.totals import Sums, Totals

_log = logging.getLogger(__name__)

_FRESH_SECONDS = 1.0
_LAST_ERRORS = 10
_PATIENCE_SECONDS = 2.0  # that Redis gets; metrics must not wait for a Redis that is gone

T = TypeVar("T")


class OwnConnection(Protocol):
    """A connection to Redis of the engine's own."""

    is_lost: bool
    client: Client

    async def ask(self, steps: Generator[Any, Any, T]) -> T:
        """Do a piece of work and return its outcome, or raise its EngineError."""

    def close(self) -> None: ...


class Monitor:
    """What is watched of one process. `connect` opens a connection of the engine's own."""

    def __init__(self, engine: Engine, connect: Callable[[], OwnConnection]) -> None:
        self.engine = engine
        #: Tells this process from all that were or will be there.
        self.process = f"{os.getpid()}-{os.urandom(8).hex()}"
        self._connect = connect
        self._connection: OwnConnection | None = None
        self._looked_at = -_FRESH_SECONDS
        self._looking: asyncio.Task[None] | None = None
        self._sums = Sums()
        self.history = History(engine.ledger)
        self.health = Health(engine, self.connection, engine.settings.preload)
        self._ticking: asyncio.TimerHandle | None = None
        #: Set when the process is about to end: what streams to a browser must end first.
        self.ending = asyncio.Event()
        self.streams = 0  # to browsers

    def start(self) -> None:
        """Begin to preload, and to keep figures of every second."""
        self.health.start()
        self._tick()

    def _tick(self) -> None:
        self.history.take(now_in_seconds())
        self._ticking = self.engine.loop.call_later(1.0, self._tick)

    def answer_peer(self, question: Question) -> Any:
        """Answer another process: about metrics, readiness, loading a deployment, or what the engine answers."""
        if "load" in question:
            return self.engine.loop.create_task(self.health.load(question["load"].encode("latin-1")))
        if "ready" in question:
            return self.health.is_ready
        if "recent" in question:
            recent = self.history.recent(question["recent"])
            return [[database, key.decode("latin-1"), counts] for (database, key), counts in recent]
        if "history" in question:
            database, key = question["history"]
            return self.of_one((database, key.encode("latin-1")))
        if "metrics" not in question:
            return self.engine.answer_peer(question)
        self._look()
        return {"process": self.process, "samples": measured(self.engine)}

    async def is_ready(self) -> bool:
        """Return whether all processes are ready: whoever asks can't choose the one that answers."""
        if not self.engine.settings.preload:
            return True
        return self.health.is_ready and all(await self._ask_peers({"ready": True}))

    async def totals(self) -> Totals:
        """Return the metrics of this process, which serves alone."""
        await self.look()
        return self._sums.of({self.process: measured(self.engine)})

    async def everywhere(self) -> Totals:
        """Return the metrics of all processes that are there now. Call it in any of them."""
        await self.look()
        told: dict[str, Samples] = {self.process: measured(self.engine)}
        for answer in await self._ask_peers({"metrics": True}):
            told[answer["process"]] = as_json(answer["samples"])
        return Sums().of(told)

    async def recent(self, seconds: int) -> dict[Place, Counts]:
        """Return what all deployments have counted lately, in all processes."""
        since = now_in_seconds() - seconds
        found = dict(self.history.recent(since))
        for answer in await self._ask_peers({"recent": since}):
            for database, key, counts in answer:
                place = (database, key.encode("latin-1"))
                found[place] = added(found[place], counts) if place in found else counts
        return found

    async def hour_of(self, place: Place) -> dict[str, Any]:
        """Return the last hour of a deployment in all processes, and its last errors."""
        parts = [self.of_one(place)]
        parts += await self._ask_peers({"history": [place[0], place[1].decode("latin-1")]})
        errors = sorted(tuple(error) for part in parts for error in part["last_errors"])
        return {**merged(parts), "last_errors": errors[-_LAST_ERRORS:]}

    def of_one(self, place: Place) -> dict[str, Any]:
        """Return the last hour of a deployment in this process, and its last errors."""
        versions = [figures for other, _, figures in self.engine.ledger.versions() if other == place]
        errors = [error for figures in versions for front in figures.fronts for error in front.last_errors]
        return {**self.history.of(place), "last_errors": errors}

    async def _ask_peers(self, question: Question) -> list[Any]:
        answers: asyncio.Future[list[Any]] = self.engine.loop.create_future()
        self.engine.ask_peers(question, answers.set_result)
        return await answers

    async def look(self) -> None:
        """Ask Redis what has become of the deployments, unless that was done within the last second."""
        task = self._look()
        if task is not None:
            await asyncio.wait([task], timeout=_PATIENCE_SECONDS)

    async def connection(self) -> OwnConnection:
        """Return the connection of the engine's own. Raise EngineError if Redis doesn't let the engine in."""
        if self._connection is None or self._connection.is_lost:
            connection = self._connection = self._connect()
            try:
                await connection.ask(log_in(self.engine.redis_address))
            except EngineError:
                connection.close()
                raise
        return self._connection

    def close(self) -> None:
        self.health.close()
        if self._ticking is not None:
            self._ticking.cancel()
        if self._looking is not None:
            self._looking.cancel()
        if self._connection is not None:
            self._connection.close()

    def _look(self) -> asyncio.Task[None] | None:
        now = self.engine.loop.time()
        if self._looking is None and now - self._looked_at >= _FRESH_SECONDS:
            self._looked_at = now
            self._looking = self.engine.loop.create_task(self._read())
        return self._looking

    async def _read(self) -> None:
        try:
            with suppress(EngineError):  # Redis is gone, or doesn't let the engine in: what is known stays
                places = sorted({place for place, _, _ in self.engine.ledger.versions()})
                if places:
                    connection = await self.connection()
                    note(self.engine.ledger, await connection.ask(entries(places)))
        finally:
            self._looking = None


def log_in(address: Address) -> Generator[Any, Any, None]:
    """Have Redis let the engine in. Raise UpstreamError."""
    credentials = address.credentials
    (answer,) = yield [(b"AUTH", *credentials) if credentials else (b"PING",)]
    refuse_error(answer)
