"""
The HTTP front as an ASGI application: the gate, then the hot routes, which are bare, then Starlette's for all others.

Routes come as lists from the folders of their protocols. Each gets the connection of the user who asks, as
`scope["state"]["connection"]`.
"""

from __future__ import annotations

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from redisai_engine.errors import EngineError
from redisai_engine.fronts.http.access.answers import HttpAnswer
from redisai_engine.fronts.http.access.calls import Call
from redisai_engine.fronts.http.access.failures import RequestRefused, body_too_large
from redisai_engine.fronts.http.access.tracing import traced
from redisai_engine.fronts.http.bounds import BodyRoom
from redisai_engine.fronts.http.description import ROUTES as DESCRIPTION_ROUTES
from redisai_engine.fronts.http.gate import OPEN, Gate
from redisai_engine.fronts.http.hot import HOT_PATHS, HotRoute, failed, find
from redisai_engine.fronts.http.live.machines import ROUTES as MACHINE_ROUTES
from redisai_engine.fronts.http.live.pages import ROUTES as PAGE_ROUTES
from redisai_engine.fronts.http.scoring.invocations import ROUTES as SCORING_ROUTES
from redisai_engine.fronts.http.v2.routes import ROUTES as V2_ROUTES
from redisai_engine.fronts.peer import is_on_this_machine
from redisai_engine.service.engine import Engine
from redisai_engine.watching.monitor import Monitor

_log = logging.getLogger(__name__)

_ROUTES: list[Route] = [*DESCRIPTION_ROUTES, *PAGE_ROUTES, *MACHINE_ROUTES, *V2_ROUTES, *SCORING_ROUTES]


class Application:
    """What uvicorn calls for each request."""

    def __init__(self, engine: Engine, gate: Gate, monitor: Monitor, room: BodyRoom) -> None:
        self._engine = engine
        self._monitor = monitor
        self._gate = gate
        self._room = room
        self._router = Router(_ROUTES, redirect_slashes=False, default=_not_found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].decode("ascii")
        try:
            await self._serve(scope, receive, send, path)
        except _Gone:
            return
        except EngineError as error:
            await respond(send, failed(path, error), head=scope["method"] == "HEAD")
        except Exception:
            _log.exception("a request over HTTP failed because of a bug in the engine")
            await respond(
                send, failed(path, RequestRefused(500, "the engine failed on this request; its log says why"))
            )

    async def _serve(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        state: dict[str, Any] = scope.setdefault("state", {})
        scope["app"] = self  # has Starlette raise what it would answer in words of its own
        state["engine"] = self._engine
        state["monitor"] = self._monitor
        state["reach"] = self._gate.reach
        if path not in OPEN:
            is_local = is_on_this_machine(scope["client"] or "unix")
            state["connection"] = await self._gate.admit(scope["headers"], is_local=is_local)
        route = find(path) if scope["method"] == "POST" else None
        if route is None:
            await self._route(scope, receive, send)
        else:
            await respond(send, await self._call(route, scope, receive))

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:  # Starlette's own, for a method that a path doesn't have
            raise RequestRefused(error.status_code, f"{scope['path']:.200} doesn't take {scope['method']}") from None
        except ClientDisconnect:
            raise _Gone from None

    async def _call(self, route: HotRoute, scope: Scope, receive: Receive) -> HttpAnswer:
        body = await read_body(receive, self._engine.settings.http_body_limit, self._room)
        connection = scope["state"]["connection"]
        call = Call(connection, route.name, route.version, scope["headers"], body, route.shown)
        spans = self._engine.spans
        answer = await connection.ask(route.handler(call) if spans is None else traced(spans, route.handler, call))
        assert isinstance(answer, HttpAnswer)
        return answer


def all_routes() -> list[tuple[str, str]]:
    """Return the method and the path of every route. Parts of a path that may be anything are in braces."""
    return [*((method, route.path) for route in _ROUTES for method in sorted(route.methods or ())), *HOT_PATHS]


class _Gone(Exception):  # no error
    """The client has closed its connection."""


async def read_body(receive: Receive, most: int, room: BodyRoom) -> bytes:
    """Return a request's body. Raise RequestRefused if it is larger than allowed, or there is no room for it."""
    parts: list[bytes] = []
    size = held = 0
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise body_too_large(most)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            room.take(len(parts[-1]))
            held += len(parts[-1])
    finally:
        room.give(held)


async def respond(send: Send, answer: HttpAnswer, *, head: bool = False) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers()})
    await send({"type": "http.response.body", "body": b"" if head else b"".join((answer.body, *answer.tail))})


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise RequestRefused(404, f"there is nothing at {scope['path']:.200}")
