"""
What clients may send over HTTP before they are answered, and how slowly. How slowly they may take it: `untaken.py`.

uvicorn's protocol has no bounds. A head counts until the parser has seen its end, a body until all of it is there. Of
what is read at once, where a head begins behind other requests only the parser knows. So that read doesn't count, and a
head may be longer by what is read at once.

The time for a head doesn't begin anew with each of its bytes, and a body has to come at a rate: otherwise a byte now
and then would keep a connection for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from redisai_engine.fronts.closing import LEAST_RATE
from redisai_engine.fronts.http.access.failures import RequestRefused

HEAD_BYTES = 64 * 1024  # of request line and headers
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BodyRoom:
    """The bytes of bodies that one process is receiving, of all connections together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        """Use `size` bytes. Raise RequestRefused, and use none, if that is more than is left."""
        if self.used + size > self._limit:
            raise RequestRefused(
                503,
                f"the bodies of requests that are being received have {self.used} bytes, and may have {self._limit} "
                "together; try again later",
            )
        self.used += size

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.used -= size


class BoundedProtocol(HttpToolsProtocol):
    """
    One connection. A head that is too large ends it, and so do a head and a body that come too slowly.

    `patience` is how many seconds a head may take, from the connection or from its first byte, and how often the rate
    of a body is looked at.
    """

    def __init__(self, *arguments: Any, patience: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience = patience
        self._head = 0  # bytes of an incomplete head
        self._in_head = True
        self._ends_another = False  # what is being read has the end of a request before the incomplete head
        self._impatience: asyncio.TimerHandle | None = None
        self._in_body = False
        self._body = 0  # bytes of an incomplete body, and of its head, since a time of the loop
        self._body_since = 0.0
        self._body_timer: asyncio.TimerHandle | None = None
        self._running: Any = None  # uvicorn's cycle that isn't answered yet, and before which no other is

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._impatience = self.loop.call_later(self._patience, self._give_up)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._ends_another = False
        super().data_received(data)
        if self._in_head:
            if not self._ends_another:
                self._head += len(data)
            if self._head > HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()
            elif self._impatience is None:
                self._impatience = self.loop.call_later(self._patience, self._give_up)
        elif self._in_body:
            self._body += len(data)
            if self._body_timer is None:
                self._body_timer = self.loop.call_later(self._patience, self._look_after_body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_waiting()
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        self._leave_pipeline()
        super().connection_lost(exc)

    def _leave_pipeline(self) -> None:
        """Tell the request that runs, and forget those behind it: uvicorn tells the last one alone."""
        self.pipeline.clear()
        running, self._running = self._running, None
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def begin_head(self) -> None:
        self._in_head = True
        self._head = 0

    def end_head(self) -> None:
        self._in_head = False
        if self._impatience is not None:
            self._end_waiting()

    def begin_body(self) -> None:
        self._in_body = True
        self._body = 0
        self._body_since = self.loop.time()

    def end_body(self) -> None:
        self._in_body = False
        self._ends_another = True

    def _end_waiting(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _give_up(self) -> None:
        self._impatience = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _look_after_body(self) -> None:
        """Close the connection if too little of a body has come."""
        self._body_timer = None
        if not self._in_body or self.transport.is_closing():
            return
        now = self.loop.time()
        took = now - self._body_since
        if took >= self._patience:
            if self._body < LEAST_RATE * took and not self.flow.read_paused:
                self.transport.close()
                return
            self._body = 0
            self._body_since, took = now, 0.0
        self._body_timer = self.loop.call_later(self._patience - took, self._look_after_body)
