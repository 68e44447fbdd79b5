"""
Reaching Redis when the engine starts: a wrong address shows at once, and a Redis that starts more slowly is waited for.

A Redis that loads its data is certainly the right one, so it is waited for however long it takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redisai_engine.errors import StartError
from redisai_engine.redis.address import Address

_REACH_SECONDS = 10.0  # for a connection to Redis, TLS included, and an answer
_PAUSE_SECONDS = 0.2

_log = logging.getLogger(__name__)


async def reach(address: Address, seconds: float, told: Callable[[str], None], stopped: Callable[[], bool]) -> None:
    """
    Return when Redis answers, or when `stopped` is true. Raise StartError if it can't be reached for `seconds`.

    `told` gets what is waited for, once for each reason.
    """
    now = asyncio.get_running_loop().time
    deadline = now() + seconds
    before = ""
    while not stopped():
        problem, is_loading = await _problem(address)
        if not problem:
            return
        if not is_loading and now() >= deadline:
            raise StartError(problem)
        if problem != before:
            before = problem
            _log.warning("%s; the engine waits for it", problem)
            told(f"waiting: {problem}")
        await asyncio.sleep(_PAUSE_SECONDS)


async def _problem(address: Address) -> tuple[str, bool]:
    """Return why Redis can't be used yet, empty if it can, and whether it loads its data."""
    answer = asyncio.get_running_loop().create_future()
    try:
        await asyncio.wait_for(address.connect(lambda: _Visit(answer)), _REACH_SECONDS)
        first = await asyncio.wait_for(answer, _REACH_SECONDS)
    except asyncio.TimeoutError:
        return f"Redis at {address} can't be reached: no answer within {_REACH_SECONDS:.0f} s", False
    except OSError as error:
        return f"Redis at {address} can't be reached: {error.strerror or error}", False
    is_loading = first.startswith(b"-LOADING")
    return (f"Redis at {address} loads its data" if is_loading else ""), is_loading


class _Visit(asyncio.Protocol):
    """A connection that closes as soon as Redis has said something to PING."""

    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self._answer = answer
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(b"*1\r\n$4\r\nPING\r\n")  # type: ignore[attr-defined]  # uvloop's aren't asyncio's Transport

    def data_received(self, data: bytes) -> None:
        if not self._answer.done():
            self._answer.set_result(data)
        assert self._transport is not None
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(ConnectionError("it closed the connection"))
