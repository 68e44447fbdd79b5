"""
One connection to Redis, as one user: the front (`commands/client.py`) of HTTP requests that share it.

Work is a generator of the steps that commands' bodies yield (`commands/steps.py`), and returns whatever its caller
wants. So an HTTP request runs through the same tasks, queues and batches as a command.

Invariant: every piece of work ends exactly once, with its outcome or an EngineError.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Plan
from redisai_engine.commands.task import Task
from redisai_engine.errors import EngineError, UpstreamError, forget_frames
from redisai_engine.execution.figures import HTTP
from redisai_engine.protocol import replies, texts
from redisai_engine.redis.backpressure import Reading
from redisai_engine.redis.upstream import Relayed
from redisai_engine.service.engine import Engine

_log = logging.getLogger(__name__)

T = TypeVar("T")
Steps = Generator[Any, Any, T]
Done = Callable[[Any], None]


class Work:
    """A generator in progress. `done` gets what it returns, or an EngineError."""

    __slots__ = ("_connection", "_done", "_outcome", "_steps", "task")

    def __init__(self, connection: UserConnection, steps: Steps[Any], done: Done) -> None:
        self._connection = connection
        self._steps = steps
        self._done = done
        self._outcome: Any = None
        self.task = Task(connection.client, self._body(), self._ended, silent=False)

    def _body(self) -> Plan:
        try:
            self._outcome = yield from self._steps
        except EngineError as error:
            forget_frames(error)
            self._connection.client.engine.ledger.failed(error)
            self._outcome = error
        return b""

    def _ended(self, task: Task) -> None:
        reply = task.reply
        if isinstance(reply, bytes) and reply[:1] == b"-":  # ended from outside, or by a bug
            self._outcome = _error_of(reply)
        self._connection.ended(self)

    def deliver(self) -> None:
        """Tell whoever waits. Called once, since what it lets go of would else be memory until the next collection."""
        done, outcome = self._done, self._outcome
        del self._done, self._outcome, self.task  # the task refers to this
        done(outcome)


def _error_of(reply: bytes) -> EngineError:
    text = reply[1:].rstrip(b"\r\n").decode("utf-8", "replace")
    return EngineError(text) if text == texts.ENGINE_FAILED else UpstreamError(text)


class Quick(Protocol):
    """A request that needs no generator."""

    def begin(self) -> None:
        """Start it, or have the connection `start` other work for it."""

    def deliver(self) -> None:
        """Tell whoever waits."""


class UserConnection:
    """A connection to Redis, and the work that is done on it, which metrics count by `front_number`."""

    def __init__(self, engine: Engine, front_number: int = HTTP) -> None:
        self.reading = Reading()
        self.is_lost = False
        self.only_deployment = b"", 0.0  # and until when that is taken for true
        self._engine = engine
        self.client = Client(engine, self, front_number)
        self._new: list[Work] = []
        self._running: set[Work] = set()
        self._quick: list[Quick] = []
        self._finished: list[Work | Quick] = []  # whose outcomes are delivered at the end of the turn

    def start(self, steps: Steps[Any], done: Done) -> None:
        """Begin a piece of work in this turn. `done` gets its outcome, or an EngineError."""
        work = Work(self, steps, done)
        self._running.add(work)
        if self.client.lost:
            work.task.end(self.client.lost)
            return
        self._new.append(work)
        self.client.touch()

    def start_quick(self, request: Quick) -> None:
        """Begin a quick request in this turn."""
        self._quick.append(request)
        self.client.touch()

    def finished(self, request: Quick) -> None:
        """Have a quick request deliver its answer at the end of this turn."""
        self._finished.append(request)
        self.client.answered()

    async def ask(self, steps: Steps[T]) -> T:
        """Do a piece of work and return its outcome, or raise its EngineError."""
        answer: asyncio.Future[T] = self._engine.loop.create_future()

        def done(outcome: Any) -> None:
            if answer.done():
                return
            if isinstance(outcome, EngineError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

        self.start(steps, done)
        return await answer

    def ended(self, work: Work) -> None:
        self._running.discard(work)
        self._finished.append(work)
        self.client.answered()

    def close(self) -> None:
        """End all work and the connection."""
        self._lose(replies.error("ERR the connection to Redis is being closed"))
        upstream = self.client.opened_upstream
        if upstream is not None:
            upstream.close()
            self._engine.liveness.forget(upstream)

    def _lose(self, error: bytes) -> None:
        self.is_lost = True
        self.client.lose(error)
        self._new.clear()
        for work in list(self._running):
            work.task.end(error)

    # What the turn calls

    def dispatch(self) -> None:
        quick, self._quick = self._quick, []
        for request in quick:
            request.begin()
        new, self._new = self._new, []
        if len(new) > 1 or len(quick) > 1:
            self._engine.turn.has_many = True
        for work in new:
            work.task.begin()

    def flush(self) -> None:
        finished, self._finished = self._finished, []
        for work in finished:
            try:
                work.deliver()
            except Exception:  # must not keep the others from their answers
                _log.exception("a request over HTTP can't be answered because of a bug in the engine")
        if self.client.opened_upstream is not None:
            self.client.opened_upstream.flush()

    def fail(self) -> None:
        """End what waits: a bug in the engine has kept `dispatch` from starting it."""
        _log.exception("requests over HTTP failed because of a bug in the engine")
        self._lose(replies.error(texts.ENGINE_FAILED))

    def abort(self) -> None:
        _log.exception("a connection to Redis failed because of a bug in the engine")
        self.close()

    # What the connection to Redis calls

    def relayed(self, entry: Relayed, data: bytes) -> None:
        """Take bytes of relayed replies: there are none, because nothing is relayed."""

    def pushed(self, data: bytes) -> None:
        """Drop a message that no command asked for."""

    def upstream_lost(self, reason: str, *, in_reply: bool, by_redis: bool) -> None:
        self._lose(replies.error(reason))
        if self.client.opened_upstream is not None:
            self._engine.liveness.forget(self.client.opened_upstream)
