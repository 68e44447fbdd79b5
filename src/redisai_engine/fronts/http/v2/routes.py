"""The other routes of V2: what this server is, what a model takes and answers, and whether it is ready."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SERVER = "redisai-engine"


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


async def server(request: Request) -> Response:
    """Return this server's name, version and extensions."""
    return _json({"name": SERVER, "version": "0.1.0", "extensions": ["binary_tensor_data", "parameters"]})


async def live(request: Request) -> Response:
    """Say that the event loop runs."""
    return _json({"live": True})


ROUTES = [
    Route("/v2", server, methods=["GET"]),
    Route("/v2/", server, methods=["GET"]),
    Route("/v2/health/live", live, methods=["GET"]),
]
