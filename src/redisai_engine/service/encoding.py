"""
Reading and encoding of large tensors, in a thread of their own, so that the event loop keeps running.

They don't share the thread in which models are loaded, which may be busy for minutes.

Invariant: every caller gets one outcome, in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redisai_engine.errors import EngineClosing, EngineError
from redisai_engine.protocol import texts

_log = logging.getLogger(__name__)


class ReplyEncoder:
    """One thread, which carries out one function after another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")

    def compute(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Call `function` in the thread, then `done` with its result or its EngineError."""
        future = self._loop.run_in_executor(self._thread, outcome_of, function)
        future.add_done_callback(lambda finished: deliver(result_of(finished), [done]))

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


def outcome_of(function: Callable[[], Any]) -> Any:
    """Call a function. Return its result, or an EngineError instead of any exception."""
    try:
        return function()
    except EngineError as error:
        return error
    except Exception as error:  # any failure must reach the client instead of leaving it waiting
        return EngineError(f"ERR the engine failed on this command: {error!r}")


def result_of(finished: asyncio.Future[Any]) -> Any:
    """Return a future's result, or an EngineError if it has none, so that a callback always has something to tell."""
    if finished.cancelled():
        return EngineClosing()
    error = finished.exception()
    if error is None:
        return finished.result()
    _log.error("a computation failed because of a bug in the engine", exc_info=error)
    return EngineError(f"ERR the engine failed on this command: {error!r}")


def deliver(outcome: Any, waiting: Sequence[Callable[[Any], None]]) -> None:
    """Give everyone who waits the outcome. Who fails on it gets an error, and costs no other the outcome."""
    for done in waiting:
        try:
            done(outcome)
        except Exception:
            _log.exception("what waited for a computation failed because of a bug in the engine")
            with contextlib.suppress(Exception):
                done(EngineError(texts.ENGINE_FAILED))
