"""
The live page: an overview and a page for each deployment, made of templates, kept up to date by events from the server.

Theory of operation. The page as it is first sent has everything but the charts, and works without its script. The
script opens a stream of events, in each of which is what has changed, and draws the charts. The form sends what is
typed to `/invocations`, as any client would.

Invariant: nothing but this server is asked for anything (content security policy), and templates escape all values.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from redisai_engine.errors import EngineError
from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.fronts.http.live import views
from redisai_engine.fronts.http.live.machines import key_of, monitor_of

_FOLDER = Path(__file__).parent
_STATIC = {"live.js": "text/javascript", "live.css": "text/css", "icon.svg": "image/svg+xml"}
_SECONDS = 2.0  # between events
_EVENTS = 150  # of one stream; then the browser opens another one, with which it is asked who it is again
_MOST_STREAMS = 64

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@cache
def _templates() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise RequestRefused(501, f"the page needs the package {error.name}: pip install '{error.name}'") from None
    loader = jinja2.FileSystemLoader(_FOLDER / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["path"] = lambda text: quote(text, safe="")
    return environment


def _page(template: str, **values: Any) -> Response:
    html = _templates().get_template(template).render(**values)
    return Response(html, media_type="text/html", headers=_HEADERS)


async def home(request: Request) -> Response:
    """Show all deployments that the user may read."""
    found = await views.overview(request.scope["state"]["connection"], monitor_of(request))
    return _page("overview.html", **found)


async def one(request: Request) -> Response:
    """Show one deployment."""
    found = await views.deployment(request.scope["state"]["connection"], monitor_of(request), key_of(request))
    return _page("deployment.html", it=found)


# -- events ----------------------------------------------------------------------------------------


async def home_events(request: Request) -> Response:
    """Stream what changes in the overview."""
    connection, monitor = request.scope["state"]["connection"], monitor_of(request)
    return await _stream(request, lambda: views.overview(connection, monitor))


async def one_events(request: Request) -> Response:
    """Stream what changes on a deployment's page."""
    connection, monitor, key = request.scope["state"]["connection"], monitor_of(request), key_of(request)
    return await _stream(request, lambda: views.live(connection, monitor, key))


async def _stream(request: Request, found: Callable[[], Awaitable[Any]]) -> Response:
    monitor = monitor_of(request)
    if monitor.streams >= _MOST_STREAMS:
        raise RequestRefused(503, f"{_MOST_STREAMS} pages are open already; close some")
    first = await found()  # an error is a status, as long as nothing was sent
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return StreamingResponse(_events(monitor, first, found), media_type="text/event-stream", headers=headers)


async def _events(monitor: Any, first: Any, found: Callable[[], Awaitable[Any]]) -> AsyncIterator[bytes]:
    monitor.streams += 1
    try:
        yield _event(first)
        for _ in range(_EVENTS):
            try:
                await asyncio.wait_for(monitor.ending.wait(), _SECONDS)
            except asyncio.TimeoutError:
                yield _event(await found())
            else:
                return
    except EngineError:
        return  # the browser asks again, and learns why
    finally:
        monitor.streams -= 1


def _event(document: Any) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(document)


# -- files -----------------------------------------------------------------------------------------


async def static(request: Request) -> Response:
    """Return the script, the style sheet or the icon."""
    name = request.path_params["file"]
    if name not in _STATIC:
        raise RequestRefused(404, f"there is no file {name:.100}")
    return Response(_read(name), media_type=_STATIC[name], headers=_HEADERS)


@cache
def _read(name: str) -> bytes:
    return (_FOLDER / "static" / name).read_bytes()


ROUTES: list[Route] = [
    Route("/", home, methods=["GET"]),
    Route("/live/events", home_events, methods=["GET"]),
    Route("/live/static/{file}", static, methods=["GET"]),
    Route("/live/events/{name:path}", one_events, methods=["GET"]),
    Route("/live/deployments/{name:path}", one, methods=["GET"]),
]
