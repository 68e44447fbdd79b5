"""`GET /openapi.json`: the description of all routes, from the file beside this module."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FILE = Path(__file__).parent / "openapi.json"


async def description(request: Request) -> Response:
    """Return the description in OpenAPI's format."""
    return Response(FILE.read_bytes(), media_type="application/json")


ROUTES = [Route("/openapi.json", description, methods=["GET"])]
