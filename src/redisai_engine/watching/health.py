"""
Whether deployments answer: each is run on the example of its record, and what `--preload` names is loaded beforehand.

Theory of operation. A trial loads the model, if it isn't in memory, and runs it on its example; one without an example
is run on inputs made up by its backend, whose failure says nothing, or only loaded. Deployments that are preloaded are
looked at once a second, and tried again when their keys hold another version. So a new version is in memory, and has
run, before most clients ask for it.

Between trials, a model whose processes keep dying says so itself.

Invariant: a deployment that has failed is not ready until it has run.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any

from redisai_engine.backends.base import Array
from redisai_engine.codec.record import is_own_key, mapping_of, record_key, texts
from redisai_engine.commands.ai.resolving import resolve_model
from redisai_engine.commands.client import Client
from redisai_engine.commands.hashes import scan_tags
from redisai_engine.commands.steps import Encode, Limited, Run, RunRequest
from redisai_engine.errors import EngineError, ModelKeepsDying
from redisai_engine.execution.figures import OWN
from redisai_engine.execution.job import TIMED_OUT, RunnableModel
from redisai_engine.redis import store
from redisai_engine.service.engine import Engine
from redisai_engine.watching.catalog import entries

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_REMEMBERED_SECONDS = 1.0
_MOST_REMEMBERED = 1000  # deployments whose trials are remembered
_TRIAL_MS = 10_000
_MOST_BYTES = 64 * 2**20  # of a record
ALL = "all"


def trial(client: Client, key: bytes) -> Generator[Any, Any, None]:
    """Load a deployment and run it on its example. Raise the EngineError if it fails."""
    model = yield from resolve_model(client, key)
    _refuse_failed(model)
    (record,) = yield Limited([(b"HGETALL", record_key(key))], _MOST_BYTES)
    arrays = yield Encode(partial(example_arrays, record))
    made_up = None if arrays is not None else model.loaded.example()
    if arrays is None and made_up is None:
        return
    deadline = client.engine.deadline(_TRIAL_MS)
    (outcome,) = yield Run([RunRequest(model, arrays or made_up or [], OWN)], deadline)
    if outcome is TIMED_OUT:
        raise EngineError(f"ERR the example has waited for {_TRIAL_MS} ms")
    if isinstance(outcome, EngineError) and arrays is not None:
        raise outcome


def example_arrays(record: Any) -> list[Array] | None:
    """Return the example of a record, as HGETALL returns that, as the model's inputs; None if there is none."""
    if not isinstance(record, (list, dict)) or not record:
        return None
    # An engine that tries nothing out doesn't import them.
    from redisai_engine.codec.encoder import Encoder
    from redisai_engine.codec.envelopes import Document
    from redisai_engine.codec.prediction import split

    pairs = record if isinstance(record, dict) else dict(zip(record[::2], record[1::2], strict=True))
    try:
        found = texts(pairs)
        if not found.get("example"):
            return None
        mapping = mapping_of(found)
        tensors = Encoder(mapping).encode(Document(json.loads(found["example"])))
        return [tensor.array() for tensor in split(tensors, mapping)[0]]
    except Exception as error:  # anybody may have written it
        _log.info("an example can't be read: %.200s", error)
        return None


class Health:
    """The deployments that are preloaded, and trials that are remembered. `connect` returns a connection of our own."""

    def __init__(self, engine: Engine, connect: Callable[[], Awaitable[Any]], preload: str) -> None:
        self._engine = engine
        self._connect = connect
        self._names = [name.strip().encode("utf-8", "surrogateescape") for name in preload.split(",") if name.strip()]
        self._all = preload.strip().lower() == ALL
        #: By name: the id that was tried, and the problem that it had, if any.
        self._tried: dict[bytes, tuple[bytes, str]] = {}
        self._looked = False
        self._remembered: dict[bytes, tuple[float, EngineError | None]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to preload, if anything is to be."""
        if self._names:
            self._task = self._engine.loop.create_task(self._keep_loaded())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    @property
    def is_ready(self) -> bool:
        """Whether all that is preloaded has run, and nothing of it has failed since."""
        return not self._names or (self._looked and all(self._runs(name) for name in self._tried))

    def _runs(self, name: bytes) -> bool:
        """Return whether a deployment has run when it was tried, and hasn't failed since."""
        id_, problem = self._tried[name]
        model = self._engine.models.peek((0, name), id_)
        return not problem and (model is None or not model.loaded.failure)

    async def check(self, connection: Any, key: bytes) -> None:
        """
        Run a deployment on its example, on the connection of the user who asks, or remember that.

        Raise EngineError if it isn't ready, or the user may not read it.
        """
        await connection.ask(_readable(connection.client, key))
        now = self._engine.loop.time()
        until, problem = self._remembered.get(key, (0.0, None))
        if until <= now:
            problem = await self._try(connection, key)
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = now + _REMEMBERED_SECONDS, problem
        if problem is not None:
            raise problem

    async def load(self, key: bytes) -> bool:
        """Load a deployment and run it on its example, with the rights of the engine. Return whether that succeeds."""
        try:
            connection = await self._connect()
        except EngineError:
            return False
        problem = await self._try(connection, key)
        if problem is not None:
            _log.warning("deployment %r can't be loaded: %s", key.decode("utf-8", "replace"), problem.wire)
        return problem is None

    @staticmethod
    async def _try(connection: Any, key: bytes) -> EngineError | None:
        try:
            await connection.ask(trial(connection.client, key))
        except EngineError as error:
            return error
        return None

    async def _keep_loaded(self) -> None:
        while True:
            try:
                await self._look()
            except EngineError as error:
                self._looked = False
                _log.info("what is to be preloaded can't be read: %s", error.wire)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        connection = await self._connect()
        names = self._names
        if self._all:
            tags = await connection.ask(scan_tags(connection.client, store.MODEL))
            names = [name for name in tags if not is_own_key(name)]
        held = await connection.ask(entries([(0, name) for name in names]))
        tried: dict[bytes, tuple[bytes, str]] = {}
        for name in names:
            entry = held.get((0, name))
            before = self._tried.get(name)
            id_ = b"" if entry is None else entry.id
            if before is not None and before[0] == id_ and id_ and self._runs(name):
                tried[name] = before
                continue
            problem = await self._try(connection, name)
            if problem is not None and (before is None or before[1] != problem.wire):
                _log.warning("deployment %r isn't ready: %s", name.decode("utf-8", "replace"), problem.wire)
            tried[name] = id_, "" if problem is None else problem.wire
        self._tried = tried
        self._looked = True


def _readable(client: Client, key: bytes) -> Generator[Any, Any, RunnableModel]:
    """Raise EngineError unless the user may read the deployment, it can be loaded, and hasn't failed since."""
    model = yield from resolve_model(client, key)
    _refuse_failed(model)
    return model


def _refuse_failed(model: RunnableModel) -> None:
    if model.loaded.failure:
        raise ModelKeepsDying(model.loaded.failure)
