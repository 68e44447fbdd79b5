"""
The hot routes without ASGI: from httptools' callbacks to the engine's turn, and back in one write.

Theory of operation. uvicorn makes a task, an event and several dictionaries for each request, which cost three times as
much as a prediction (`bench/http.py`). A request to a hot route goes past them if nothing has to wait: its user is
known, nothing before it on the connection is unanswered, and the client reads. All other requests take uvicorn's way.
A `HotCycle` stands in the place of uvicorn's cycle meanwhile. So what uvicorn does with requests that come too early,
with a lost connection or at the end of the process works without knowing of it.

Past the parser, too, goes a request whose head is known (`heads.py`) if it came in one piece while the parser is
between two messages. V2's small requests run by `v2/quick.py`, which has no generators.

Invariant: a response is written when it is complete, so that a failure never leaves half of one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from redisai_engine.errors import EngineError
from redisai_engine.fronts.http.access.answers import HttpAnswer
from redisai_engine.fronts.http.access.calls import SMALL_BODY, Call
from redisai_engine.fronts.http.access.connection import UserConnection
from redisai_engine.fronts.http.access.failures import RequestRefused, body_too_large
from redisai_engine.fronts.http.access.tracing import traced
from redisai_engine.fronts.http.bounds import BodyRoom, BoundedProtocol
from redisai_engine.fronts.http.gate import Gate, credentials_in
from redisai_engine.fronts.http.heads import Head, Heads, quick_json_size
from redisai_engine.fronts.http.hot import HotRoute, failed, find
from redisai_engine.fronts.http.v2.inference import infer
from redisai_engine.fronts.http.v2.quick import QuickInference
from redisai_engine.fronts.peer import is_on_this_machine
from redisai_engine.protocol import texts
from redisai_engine.tracing.spans import Spans

_log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_ROUTES = 1024
_LONGEST_URL = 1024


class Routes:
    """The hot routes of URLs that were seen lately."""

    def __init__(self) -> None:
        self._found: dict[bytes, HotRoute | None] = {}
        self.heads = Heads(self._found)

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


class _Answered:
    """The cycle of a connection whose last request is answered: it keeps nothing of it in memory."""

    response_complete = True
    keep_alive = True
    message_event = asyncio.Event()


_ANSWERED = _Answered()


class DirectProtocol(BoundedProtocol):
    """One connection."""

    cycle: Any  # uvicorn's, or one of ours in its place

    def __init__(
        self,
        *arguments: Any,
        gate: Gate,
        routes: Routes,
        spans: Spans | None,
        body_limit: int,
        room: BodyRoom,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self._gate = gate
        self._routes = routes
        self._spans = spans
        self._body_limit = body_limit
        self._room = room
        self._held = 0  # bytes of `room`
        self._is_local = False
        self._hot: HotCycle | None = None  # whose body is being read
        self._is_between = True  # the parser has seen the last message's end, and nothing of the next one
        self._begun = 0  # messages, in the data that is being parsed
        self._whole: HotCycle | None = None  # the last of these that is complete
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._is_local = is_on_this_machine(self.client or "unix")

    def data_received(self, data: bytes) -> None:
        if not self._is_between:
            super().data_received(data)
            if self._hot is not None:
                self._hold(self._hot)
            return
        head = self._routes.heads.find(data)
        if head is not None and self._take(head, data):
            return
        self._begun = 0
        self._whole = None
        super().data_received(data)
        if self._hot is not None:
            self._hold(self._hot)
        else:
            self._learn(data)

    def _hold(self, hot: HotCycle) -> None:
        """Account for a body of which more is to come."""
        try:
            self._room.take(hot.size - self._held)
        except RequestRefused as error:
            self._refuse(hot, error)
            return
        self._held = hot.size

    def _release(self) -> None:
        self._room.give(self._held)
        self._held = 0

    def _refuse(self, hot: HotCycle, error: EngineError) -> None:
        """Answer before the body is there, and take no more of it."""
        self._hot = None
        hot.parts.clear()
        self._release()
        hot.keep_alive = False
        self._fail(hot, error)

    def _learn(self, data: bytes) -> None:
        """Remember the head of the request that the data is, if it is one."""
        hot, self._whole = self._whole, None
        if hot is not None and self._begun == 1 and self._is_between:
            self._routes.heads.learn(data, hot.route, hot.url, hot.headers, hot.size)

    def _take(self, head: Head, data: bytes) -> bool:
        """Begin a request whose head is known. Return False if the parser must see it."""
        cycle = self.cycle
        if (cycle is not None and not cycle.response_complete) or self.flow.write_paused or self.transport.is_closing():
            return False
        connection = self._gate.known(head.credentials, is_local=self._is_local)
        if connection is None:
            return False
        if self._in_head:
            self.end_head()
        route, body, json_size = head.route, data[-head.size :], head.json_size
        if json_size != -1 and self._spans is None:
            self._begin_quick(route, connection, head.headers, body, json_size)
        else:
            hot = HotCycle(route, head.url, head.headers, connection, keep_alive=True)
            self.cycle = hot
            self._run(hot, route, head.headers, body)
        return True

    def _begin_quick(
        self,
        route: HotRoute,
        connection: UserConnection,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        json_size: int | None,
    ) -> None:
        request = QuickInference(self, connection, route.name, route.shown, headers, body, json_size)
        self.cycle = request
        connection.start_quick(request)

    # Parser callbacks

    def on_message_begin(self) -> None:
        self._is_between = False
        self._begun += 1
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._hot = None
        self.begin_head()

    def on_headers_complete(self) -> None:
        self.end_head()
        self.begin_body()
        if self.parser.get_method() == b"POST" and (cycle := self._hot_cycle()) is not None:
            self._hot = self.cycle = cycle
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
            self._refuse(hot, body_too_large(self._body_limit))

    def on_message_complete(self) -> None:
        self.end_body()
        hot, self._hot = self._hot, None
        if hot is None:
            super().on_message_complete()
            self._is_between = self.cycle.keep_alive and not self.parser.should_upgrade()
            return
        body = hot.parts[0] if len(hot.parts) == 1 else b"".join(hot.parts)
        hot.parts.clear()
        if self._held:
            self._release()
        if hot.keep_alive:
            self._is_between = True
            self._whole = hot
            json_size = quick_json_size(hot.route, hot.headers) if hot.size <= SMALL_BODY else -1
            if json_size != -1 and self._spans is None:
                self._begin_quick(hot.route, hot.connection, hot.headers, body, json_size)
                return
        self._run(hot, hot.route, hot.headers, body)

    def left(self, request: QuickInference) -> None:
        """Do in the regular way what the quick one can't."""
        body, request.body = request.body, b""
        self._run(request, HotRoute(infer, request.name, ""), request.headers, body)

    def _run(
        self,
        cycle: HotCycle | QuickInference,
        route: HotRoute,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        call = Call(cycle.connection, route.name, route.version, headers, body, route.shown)
        steps = route.handler(call) if self._spans is None else traced(self._spans, route.handler, call)
        cycle.connection.start(steps, lambda outcome: self.answer(cycle, outcome))

    def _hot_cycle(self) -> HotCycle | None:
        """Return the cycle of a request that needn't wait for anything, or None: then it takes uvicorn's way."""
        if (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused:
            return None
        parser = self.parser
        route = self._routes.find(self.url)
        if route is None or parser.should_upgrade() or parser.get_http_version() != "1.1":
            return None
        try:
            connection = self._gate.known(credentials_in(self.headers), is_local=self._is_local)
        except RequestRefused:
            return None
        if connection is None:
            return None
        return HotCycle(route, self.url, self.headers, connection, keep_alive=parser.should_keep_alive())

    # One timer for a connection, instead of one for each request

    def on_response_complete(self) -> None:
        self._running = None
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
        self._release()
        self._hot = None
        super().connection_lost(exc)

    # Answers

    def answer(self, cycle: HotCycle | QuickInference, outcome: Any) -> None:
        """Write a request's answer, or its error."""
        if cycle.response_complete:
            return
        if isinstance(outcome, HttpAnswer):
            self._write(cycle, outcome)
        else:
            self._fail(cycle, outcome if isinstance(outcome, EngineError) else EngineError(texts.ENGINE_FAILED))

    def _fail(self, cycle: HotCycle | QuickInference, error: EngineError) -> None:
        self._write(cycle, failed(cycle.url.decode("ascii"), error))

    def _write(self, cycle: HotCycle | QuickInference, answer: HttpAnswer) -> None:
        cycle.response_complete = True
        keep_alive = cycle.keep_alive
        if self.cycle is cycle:
            self.cycle = _ANSWERED
        if cycle.disconnected or self.transport.is_closing():
            return
        pieces = answer.pieces(keep_alive=keep_alive)
        if len(pieces) == 1:
            self.transport.write(pieces[0])
        else:
            self.transport.writelines(pieces)
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()
