"""
`POST /invocations/{deployment}`: MLflow's scoring protocol, by the mapping that the plugin has recorded.

Without a name it is the deployment that `--default-deployment` names, or the only one.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redisai_engine.codec.record import is_own_key
from redisai_engine.commands.hashes import scan_tags
from redisai_engine.commands.steps import Encode
from redisai_engine.fronts.http.access.answers import HttpAnswer
from redisai_engine.fronts.http.access.calls import SMALL_BODY, Call, body_of, check_weight
from redisai_engine.fronts.http.access.connection import Steps
from redisai_engine.fronts.http.access.deployments import resolve_deployment
from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.fronts.http.access.predicting import predict
from redisai_engine.fronts.http.scoring.answers import predictions_json
from redisai_engine.fronts.http.scoring.inputs import JSON, ScoringInput, media_type, read_input
from redisai_engine.redis import store

_SECONDS = 1.0  # for which the only deployment is remembered
_LIKE_INPUT = "like input"


def invocations(call: Call) -> Steps[HttpAnswer]:
    """Predict. Raise EngineError."""
    watch = call.watch
    kind = media_type(call.header(b"content-type"))
    most = call.client.engine.settings.tensor_limit
    body = yield from body_of(call)
    check_weight(body, most)
    name = call.name or (yield from _default(call))
    model, deployment = yield from resolve_deployment(call.client, name)
    container = deployment.mapping.answer.container
    found: list[ScoringInput] = []

    def read() -> tuple[Any, Any]:
        given = read_input(kind, body, deployment.mapping, most)
        found.append(given)
        if kind != JSON or not given.is_frame or not container.endswith(_LIKE_INPUT):
            return given.value, given.value
        import pandas as pd

        return given.value, pd.DataFrame()  # whose only use is that it is a frame

    is_large = len(body) > SMALL_BODY or kind != JSON or container.endswith(_LIKE_INPUT)
    answer = yield from predict(call.client, model, deployment, read, deadline=None, is_large=is_large, watch=watch)
    (given,) = found
    if is_large:
        text = yield Encode(lambda: predictions_json(answer, is_bare=given.is_bare))
    else:
        text = predictions_json(answer, is_bare=given.is_bare)
    watch.end(b"encode")
    return HttpAnswer(text, headers=[(b"x-deployment", call.shown or quote(name, safe="/:@").encode()), watch.header()])


def _default(call: Call) -> Steps[bytes]:
    """Return the deployment that stands for no name. Raise RequestRefused if there is none, or more than one."""
    given = call.client.engine.settings.default_deployment
    if given:
        return given.encode()
    now = call.client.engine.loop.time()
    known, until = call.connection.only_deployment
    if until > now:
        return known
    tags = yield from scan_tags(call.client, store.MODEL)
    names = [name for name in tags if not is_own_key(name)]
    if len(names) != 1:
        raise RequestRefused(
            404,
            f"there are {len(names)} deployments, so the path must name one: /invocations/NAME (see "
            "--default-deployment)",
        )
    call.connection.only_deployment = names[0], now + _SECONDS
    return names[0]


# -- the other routes ------------------------------------------------------------------------------


async def ping(request: Request) -> Response:
    """Say that this process and its Redis answer."""
    await request.scope["state"]["reach"]()
    return Response("\n", media_type=JSON)


async def mlflow_version(request: Request) -> Response:
    """Return the version of MLflow whose protocol this is: the one that is installed beside the engine."""
    try:
        return Response(version("mlflow"), media_type=JSON)
    except PackageNotFoundError:
        return Response("unknown", media_type=JSON)


ROUTES = [
    Route("/ping", ping, methods=["GET"]),
    Route("/health", ping, methods=["GET"]),
    Route("/version", mlflow_version, methods=["GET"]),
]
