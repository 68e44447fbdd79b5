"""Requests over HTTP as spans: of the trace that their headers name, or of one of their own."""

from __future__ import annotations

from redisai_engine.errors import EngineError
from redisai_engine.fronts.http.access.answers import HttpAnswer
from redisai_engine.fronts.http.access.calls import Call, Handler
from redisai_engine.fronts.http.access.connection import Steps
from redisai_engine.fronts.http.access.failures import status_of
from redisai_engine.tracing.spans import Spans

_HEADERS = (b"traceparent", b"tracestate")
_FAILED = 500  # from this status on, it is the server's fault


def traced(spans: Spans, handler: Handler, call: Call) -> Steps[HttpAnswer]:
    """Do what a handler does for a call, and make a span of it."""
    context = {key.decode("latin-1"): value.decode("latin-1") for key, value in call.headers if key in _HEADERS}
    status = 500
    try:
        answer = yield from handler(call)
        status = answer.status
    except EngineError as error:
        status = status_of(error)
        raise
    finally:
        spans.record(
            f"{handler.__name__} {call.shown.decode()}".strip(),
            context,
            {"http.request.method": "POST", "http.response.status_code": status},
            [(part.decode(), seconds) for part, seconds in call.watch.parts],
            failed=status >= _FAILED,
        )
    return answer
