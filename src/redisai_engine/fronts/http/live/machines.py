"""What machines ask: metrics, whether the engine and its deployments are ready, and statistics as Triton gives them."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redisai_engine.commands.steps import refuse_error
from redisai_engine.fronts.http.access.connection import Steps
from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.watching.catalog import entries
from redisai_engine.watching.measuring import label_of
from redisai_engine.watching.monitor import Monitor
from redisai_engine.watching.totals import Totals

_VERSION = "1"  # the only one that a deployment has for V2


def monitor_of(request: Request) -> Monitor:
    found: Monitor = request.scope["state"]["monitor"]
    return found


def key_of(request: Request) -> bytes:
    """Return the key of the deployment that the path names."""
    return bytes(request.path_params["name"].encode("utf-8", "surrogateescape"))


def json_response(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


# -- metrics ---------------------------------------------------------------------------------------


async def metrics(request: Request) -> Response:
    """Return the metrics of all processes to whoever may ask Redis for its own (INFO)."""
    try:
        from redisai_engine.watching.exposition import exposed
    except ImportError as error:
        raise RequestRefused(501, f"metrics need the package {error.name}: pip install '{error.name}'") from None
    await request.scope["state"]["connection"].ask(_may_ask())
    monitor = monitor_of(request)
    totals = await monitor.everywhere()
    triton = monitor.engine.settings.metrics_compat == "triton"
    accept = request.headers.get("accept", "")
    content_type, text = await monitor.engine.loop.run_in_executor(None, lambda: exposed(totals, accept, triton=triton))
    return Response(text, headers={"content-type": content_type})


def _may_ask() -> Steps[None]:
    (answer,) = yield [(b"INFO", b"server")]
    refuse_error(answer)


# -- health ----------------------------------------------------------------------------------------


async def ready(request: Request) -> Response:
    """Say whether Redis answers, and all that is to be preloaded has run."""
    await request.scope["state"]["reach"]()
    if not await monitor_of(request).is_ready():
        return json_response({"ready": False, "error": "what is to be preloaded has not run yet, or fails"}, 503)
    return json_response({"ready": True})


async def model_ready(request: Request) -> Response:
    """Say whether a deployment runs on its example."""
    _check_version(request)
    await monitor_of(request).health.check(request.scope["state"]["connection"], key_of(request))
    return json_response({"name": request.path_params["name"], "ready": True})


def _check_version(request: Request) -> None:
    version = request.path_params.get("version", _VERSION)
    if version != _VERSION:
        raise RequestRefused(404, f"there is no version {version!r:.40} of this model; it has version {_VERSION}")


# -- statistics ------------------------------------------------------------------------------------


async def statistics(request: Request) -> Response:
    """Return a deployment's statistics."""
    _check_version(request)
    key = key_of(request)
    found = await request.scope["state"]["connection"].ask(entries([(0, key)]))
    if found.get((0, key)) is None:
        raise RequestRefused(404, f"there is no model {request.path_params['name']:.200}")
    totals = await monitor_of(request).everywhere()
    return json_response({"model_stats": [_statistics(totals, label_of(key))]})


def _statistics(totals: Totals, name: str) -> dict[str, Any]:
    def total(metric: str, **wanted: str) -> float:
        found = 0.0
        for labels, value in totals.get(metric, {}).items():
            if labels[:2] == (name, "0") and set(wanted.values()) <= set(labels[5:]):
                found += value[-1] if isinstance(value, list) else value
        return found

    def timed(count: float, seconds: float) -> dict[str, int]:
        return {"count": int(count), "ns": int(seconds * 1e9)}

    succeeded, failed = (total("redisai_requests_total", outcome=outcome) for outcome in ("ok", "error"))
    runs = sum(
        sum(value[:-1])
        for labels, value in totals.get("redisai_run_seconds", {}).items()
        if labels[:2] == (name, "0") and isinstance(value, list)
    )
    return {
        "name": name,
        "version": _VERSION,
        "inference_count": int(total("redisai_batch_rows")),
        "execution_count": int(runs),
        "inference_stats": {
            "success": timed(succeeded, total("redisai_request_seconds")),
            "fail": timed(failed, total("redisai_failed_request_seconds_total")),
            "queue": timed(succeeded, total("redisai_queue_seconds")),
            "compute_infer": timed(runs, total("redisai_run_seconds")),
        },
        "batch_stats": [],
    }


def _of_model(end: str, endpoint: Any) -> list[Route]:
    paths = (f"/v2/models/{{name:path}}/versions/{{version}}{end}", f"/v2/models/{{name:path}}{end}")
    return [Route(path, endpoint, methods=["GET"]) for path in paths]


ROUTES: list[Route] = [
    Route("/metrics", metrics, methods=["GET"]),
    Route("/v2/health/ready", ready, methods=["GET"]),
    *_of_model("/ready", model_ready),
    *_of_model("/stats", statistics),
]
