"""
The hot routes without ASGI: from httptools' callbacks to the engine's turn, and back in one write.

Theory of operation. uvicorn makes a task, an event and several dictionaries for each request, which cost three times as
much as a prediction (`bench/http.py`). A request to a hot route goes past them if nothing has to wait: its user is
known, nothing before it on the connection is unanswered, and the client reads. All other requests take uvicorn's way.
A `HotCycle` stands in the place of uvicorn's cycle meanwhile. So what uvicorn does with requests that come too early,
with a lost connection or at the end of the process works without knowing of it.

Invariant: a response is written when it is complete, so that a failure never leaves half of one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from redisai_engine.errors import EngineError
from redisai_engine.fronts.http.access.calls import Call, HttpAnswer
from redisai_engine.fronts.http.access.connection import UserConnection
from redisai_engine.fronts.http.access.failures import RequestRefused, body_too_large
from redisai_engine.fronts.http.access.tracing import Tracing
from redisai_engine.fronts.http.bounds import BoundedProtocol
from redisai_engine.fronts.http.gate import Gate
from redisai_engine.fronts.http.hot import HotRoute, failed, find
from redisai_engine.fronts.peer import is_on_this_machine
from redisai_engine.protocol import texts
from redisai_engine.protocol.tensor import Buffer

_log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LARGE = 1 << 16  # bytes of a body that isn't copied behind its head
_MOST_ROUTES = 1024
_LONGEST_URL = 1024


class Routes:
    """The hot routes of URLs that were seen lately."""

    def __init__(self) -> None:
        self._found: dict[bytes, HotRoute | None] = {}

    def find(self, url: bytes) -> HotRoute | None:
        """Return the route of a request's target, or None if it isn't a plain path to a hot route."""
        found = self._found
        if url in found:
            return found[url]
        if len(url) > _LONGEST_URL or b"?" in url or not url.isascii():
            return None
        if len(found) >= _MOST_ROUTES:
            found.clear()
        route = found[url] = find(url.decode("ascii"))
        return route


class HotCycle:
    """One request on a hot route. The public names are those that uvicorn's protocol uses of a cycle."""

    __slots__ = (
        "connection",
        "disconnected",
        "headers",
        "keep_alive",
        "parts",
        "response_complete",
        "route",
        "size",
        "url",
    )

    def __init__(
        self,
        route: HotRoute,
        url: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        connection: UserConnection,
        *,
        keep_alive: bool,
    ) -> None:
        self.route = route
        self.url = url
        self.headers = headers
        self.connection = connection
        self.keep_alive = keep_alive
        self.parts: list[bytes] = []
        self.size = 0
        self.disconnected = False
        self.response_complete = False

    @property
    def message_event(self) -> HotCycle:
        return self

    def set(self) -> None:
        """Wake whoever waits for the request's next part: nobody does."""


class DirectProtocol(BoundedProtocol):
    """One connection."""

    def __init__(
        self, *arguments: Any, gate: Gate, routes: Routes, tracing: Tracing | None, body_limit: int, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._gate = gate
        self._routes = routes
        self._tracing = tracing
        self._body_limit = body_limit
        self._is_local = False
        self._hot: HotCycle | None = None  # whose body is being read
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._is_local = is_on_this_machine(self.client or "unix")

    # Parser callbacks

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._hot = None
        self.begin_head()

    def on_headers_complete(self) -> None:
        if self.parser.get_method() == b"POST" and (cycle := self._hot_cycle()) is not None:
            self.end_head()
            self._hot = self.cycle = cycle  # type: ignore[assignment]
            if self.expect_100_continue:
                self.transport.write(_CONTINUE)
            return
        # uvicorn's own begin makes what its own way needs, which includes the headers' list.
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        hot = self._hot
        if hot is None:
            super().on_body(body)
            return
        hot.parts.append(body)
        hot.size += len(body)
        if hot.size > self._body_limit:
            self._hot = None
            hot.parts.clear()
            hot.keep_alive = False
            self._fail(hot, body_too_large(self._body_limit))

    def on_message_complete(self) -> None:
        hot, self._hot = self._hot, None
        if hot is None:
            super().on_message_complete()
            return
        body = hot.parts[0] if len(hot.parts) == 1 else b"".join(hot.parts)
        hot.parts.clear()
        route = hot.route
        call = Call(hot.connection, route.name, route.version, hot.headers, body, route.shown)
        steps = route.handler(call) if self._tracing is None else self._tracing.traced(route.handler, call)
        hot.connection.start(steps, lambda outcome: self._ended(hot, outcome))

    def _hot_cycle(self) -> HotCycle | None:
        """Return the cycle of a request that needn't wait for anything, or None: then it takes uvicorn's way."""
        if (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused:
            return None
        parser = self.parser
        route = self._routes.find(self.url)
        if route is None or parser.should_upgrade() or parser.get_http_version() != "1.1":
            return None
        try:
            connection = self._gate.known(self.headers, is_local=self._is_local)
        except RequestRefused:
            return None
        if connection is None:
            return None
        return HotCycle(route, self.url, self.headers, connection, keep_alive=parser.should_keep_alive())

    # One timer for a connection, instead of one for each request

    def on_response_complete(self) -> None:
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self._idle_timer is None and not self.transport.is_closing():
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_after_idle)

    def _look_after_idle(self) -> None:
        self._idle_timer = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self.transport.is_closing():
            return
        if left <= 0 and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(max(left, 1.0), self._look_after_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        super().connection_lost(exc)

    # Answers

    def _ended(self, hot: HotCycle, outcome: Any) -> None:
        if hot.response_complete:
            return
        if isinstance(outcome, HttpAnswer):
            self._write(hot, outcome)
        else:
            self._fail(hot, outcome if isinstance(outcome, EngineError) else EngineError(texts.ENGINE_FAILED))

    def _fail(self, hot: HotCycle, error: EngineError) -> None:
        self._write(hot, failed(hot.url.decode("ascii"), error))

    def _write(self, hot: HotCycle, answer: HttpAnswer) -> None:
        hot.response_complete = True
        if hot.disconnected or self.transport.is_closing():
            return
        body = answer.body
        parts: list[Buffer] = [STATUS_LINE[answer.status], b"content-type: ", answer.content_type]
        size = answer.size
        parts.append(b"\r\ncontent-length: %d\r\n" % size)
        for name, value in answer.headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n" if hot.keep_alive else b"connection: close\r\n\r\n")
        parts += (body, *answer.tail)
        if size < _LARGE:
            self.transport.write(b"".join(parts))
        else:  # joining would copy what is large
            self.transport.writelines(parts)
        if not hot.keep_alive:
            self.transport.close()
        self.on_response_complete()
