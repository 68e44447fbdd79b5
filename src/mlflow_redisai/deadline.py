"""
The time limit of a call from end to end: one deadline, which everything that the call waits for looks at.

Theory of operation. `Limit` sets the deadline for a block, in this thread and in contexts copied from it. Of two that
are nested the earlier one holds. Whatever waits asks `at_most` for how long it may: sockets (`server.bounded`), the
child process (`deploy.process`), the start of a local server. `step` names what is going on, for the error.

Invariant: after the deadline `at_most` and `check` raise CallTimedOut. Only `for_cleaning_up` gives more time.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from time import monotonic
from typing import TypeVar

from mlflow_redisai.errors import CallTimedOut

T = TypeVar("T")

CLEANING_S = 2.0  # how long removing what a call has begun may take, when the call's own time is over


class Limit:
    """
    A block that must end within so many seconds (None: no limit), in which it is the deadline.

    `what` and `cure` are for the error: what takes too long, and how to allow it more time. `step` is what it is doing
    now, since `since`. A class, because a prediction has no time for contextlib.
    """

    __slots__ = ("_token", "cure", "end", "seconds", "since", "step", "what")

    def __init__(self, what: str, seconds: float | None, cure: str) -> None:
        self.what, self.seconds, self.cure, self.step = what, seconds, cure, ""
        self.since = self.end = 0.0
        self._token: Token[Limit | None] | None = None

    def __enter__(self) -> None:
        if self.seconds is None:
            return
        self.since = monotonic()
        self.end = self.since + self.seconds
        outer = _current.get()
        if outer is None or self.end < outer.end:
            self._token = _current.set(self)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _current.reset(self._token)

    def left(self) -> float:
        """Return the seconds that are left. Raise CallTimedOut if there are none."""
        now = monotonic()
        if now >= self.end:
            raise CallTimedOut(self.what, self.seconds or 0, self.step, now - self.since, self.cure)
        return self.end - now


_current: ContextVar[Limit | None] = ContextVar("deadline", default=None)
#: Returns the deadline of the call that is running, if it has one.
current = _current.get


def at_most(seconds: float | None) -> float | None:
    """Return how long the call may wait for something that may take so long. None: for ever. Raise CallTimedOut."""
    deadline = _current.get()
    if deadline is None:
        return seconds
    left = deadline.left()
    return left if seconds is None or left < seconds else seconds


def wait_ms(milliseconds: int) -> int:
    """Return how long a prediction may wait in the server's queue, so that it can say in time that it was too long."""
    deadline = _current.get()
    return milliseconds if deadline is None else max(1, min(milliseconds, int(deadline.left() * 900)))


def check() -> None:
    """Raise CallTimedOut if the call's time is over."""
    at_most(None)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Name what the call does inside the block."""
    deadline = _current.get()
    if deadline is None:
        yield
        return
    before = deadline.step, deadline.since
    deadline.step, deadline.since = text, monotonic()
    try:
        yield
    finally:
        deadline.step, deadline.since = before


@contextlib.contextmanager
def for_cleaning_up(seconds: float = CLEANING_S) -> Iterator[None]:
    """Give the block so many seconds, whether or not the call has any time left."""
    outer = _current.get()
    if outer is None:
        yield
        return
    token = _current.set(None)
    try:
        with Limit(outer.what, seconds, outer.cure):
            yield
    finally:
        _current.reset(token)


def waited_for(work: Callable[[], T]) -> T:
    """
    Return what `work` returns, or raise what it raises. Raise CallTimedOut at the deadline, whatever it waits for.

    It runs in a thread then, which goes on until it ends by itself, but doesn't keep the process from ending.
    """
    if _current.get() is None:
        return work()
    results: list[T] = []
    problems: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            problems.append(error)
        ended.set()

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    while not ended.wait(at_most(None)):
        check()
    if problems:
        raise problems[0]
    return results[0]
