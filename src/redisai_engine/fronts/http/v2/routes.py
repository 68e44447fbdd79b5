"""The other routes of V2: what this server is, what a model takes and answers, and which models there are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redisai_engine.backends.base import TensorInfo
from redisai_engine.codec.mapping import Input, Output, Shape
from redisai_engine.codec.record import is_own_key
from redisai_engine.commands.ai.resolving import resolve_model
from redisai_engine.commands.hashes import check_permitted, scan_tags
from redisai_engine.commands.steps import AskPeers
from redisai_engine.execution.job import RunnableModel
from redisai_engine.fronts.http.access.calls import Call
from redisai_engine.fronts.http.access.connection import Steps
from redisai_engine.fronts.http.access.deployments import resolve_deployment
from redisai_engine.fronts.http.access.failures import RequestRefused, bad_request
from redisai_engine.fronts.http.v2.inference import check_version
from redisai_engine.fronts.http.v2.models import shown
from redisai_engine.fronts.http.v2.outputs import VERSION
from redisai_engine.fronts.http.v2.requests import load_json
from redisai_engine.fronts.http.v2.tensors import datatype_of
from redisai_engine.protocol.dtypes import DType
from redisai_engine.redis import store

EXTENSIONS = ("binary_tensor_data", "model_repository", "parameters", "statistics")
_PLATFORMS = {
    "ONNX": "onnxruntime_onnx",
    "TORCH": "pytorch_torchscript",
    "TF": "tensorflow_graphdef",
    "TFLITE": "tensorflow_lite",
    "PYFUNC": "mlflow_pyfunc",
}
_UNKNOWN = "UNKNOWN"  # a datatype, where neither model nor record tells it
_MOST_BYTES = 4096  # of a body that these routes read


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


async def _done(request: Request, steps: Callable[[Call], Steps[Any]]) -> Any:
    """Do work on the connection of the user who asks."""
    connection = request.scope["state"]["connection"]
    parts = request.path_params
    name = parts.get("name", "").encode("utf-8", "surrogateescape")
    return await connection.ask(steps(Call(connection, name, parts.get("version", ""), (), b"")))


# -- the server ------------------------------------------------------------------------------------


async def server(request: Request) -> Response:
    """Return this server's name, version and extensions."""
    return _json({"name": "redisai-engine", "version": _own_version(), "extensions": EXTENSIONS})


def _own_version() -> str:
    try:
        return version("mlflow-redisai")
    except PackageNotFoundError:  # a source folder on the path
        return "unknown"


async def live(request: Request) -> Response:
    """Say that the event loop runs."""
    return _json({"live": True})


# -- one model -------------------------------------------------------------------------------------


async def model_metadata(request: Request) -> Response:
    """Return what a model takes and answers."""
    return _json(await _done(request, _metadata))


def _metadata(call: Call) -> Steps[dict[str, Any]]:
    check_version(call)
    model, deployment = yield from resolve_deployment(call.client, call.name)
    loaded = model.loaded
    mapping = deployment.mapping if deployment.fields else None
    return {
        "name": _shown_name(call.name),
        "versions": [VERSION],
        "platform": _PLATFORMS.get(model.backend_name, model.backend_name.lower()),
        "inputs": _tensors(loaded.inputs, loaded.input_infos, mapping.inputs if mapping else None),
        "outputs": _tensors(loaded.outputs, loaded.output_infos, mapping.outputs if mapping else None),
    }


def _tensors(
    names: Sequence[str],
    infos: Sequence[TensorInfo | None],
    recorded: Sequence[Input | Output] | None,
) -> list[dict[str, Any]]:
    """Return what the model tells of its tensors, or else what the deployment has recorded, or else their names."""
    if infos:
        return _told(names, infos)
    if recorded is not None:
        return [_recorded(item.name, item.dtype, item.shape) for item in recorded]
    return [_recorded(name, None, None) for name in names]


def _told(names: Sequence[str], infos: Sequence[TensorInfo | None]) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": datatype_of(np.dtype(info.dtype)), "shape": shown(info)}
        for name, info in zip(names, infos, strict=True)
        if info is not None
    ]


def _recorded(name: str, dtype: DType | None, shape: Shape | None) -> dict[str, Any]:
    lengths = (None,) if shape is None else shape
    return {
        "name": name,
        "datatype": _UNKNOWN if dtype is None else datatype_of(dtype.numpy),
        "shape": [-1 if length is None else length for length in lengths],
    }


def _shown_name(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _load(call: Call) -> Steps[str]:
    check_version(call)
    yield from resolve_model(call.client, call.name)
    yield AskPeers({"load": call.name.decode("latin-1")})
    return _shown_name(call.name)


# -- the repository --------------------------------------------------------------------------------


async def model_list(request: Request) -> Response:
    """Return the names of all models that the user may read."""
    return _json({"models": [_shown_name(name) for name in await _done(request, _names)]})


async def repository_index(request: Request) -> Response:
    """Return all models, each with its state. Those that aren't in memory are loaded when they are first asked for."""
    body = await _body(request)
    if type(body.get("ready", False)) is not bool:
        raise bad_request("ready must be true or false")
    return _json(await _done(request, _index))


def _index(call: Call) -> Steps[list[dict[str, str]]]:
    names = yield from _names(call)
    return [_state(name, call.client.engine.models.held((0, name))) for name in names]


def _state(name: bytes, model: RunnableModel | None) -> dict[str, str]:
    failure = "" if model is None else model.loaded.failure.removeprefix("ERR ")
    return {
        "name": _shown_name(name),
        "version": VERSION,
        "state": "UNAVAILABLE" if failure else "READY",
        "reason": failure,
    }


def _names(call: Call) -> Steps[list[bytes]]:
    tags = yield from scan_tags(call.client, store.MODEL)
    return sorted(name for name in tags if not is_own_key(name))


async def repository_load(request: Request) -> Response:
    """Load a model into the memory of all processes. Those that take long go on with it after the answer."""
    await _body(request)
    name = await _done(request, _load)
    return _json({"name": name, "load": True})


async def repository_unload(request: Request) -> Response:
    """Drop a model from memory, in all processes. Who may not write its key may not do that."""
    await _body(request)
    name = await _done(request, _unload)
    return _json({"name": name, "unload": True})


def _unload(call: Call) -> Steps[str]:
    client, key = call.client, call.name
    yield from resolve_model(client, key)
    yield from check_permitted(key, (b"EXISTS", key))
    client.engine.models.unload(client.database, key)
    yield AskPeers({"unload": [client.database, key.decode("latin-1")]})
    return _shown_name(key)


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body; an empty one without a body. Raise RequestRefused."""
    size = 0
    parts = []
    async for part in request.stream():
        size += len(part)
        if size > _MOST_BYTES:
            raise RequestRefused(413, f"the body is larger than the {_MOST_BYTES} bytes that are allowed here")
        parts.append(part)
    data = b"".join(parts)
    document = load_json(data) if data.strip() else {}
    if type(document) is not dict:
        raise bad_request("the body must be a JSON object, or empty")
    return document


def _of_model(end: str, endpoint: Any, method: str = "GET") -> list[Route]:
    """Return the routes of something about a model, with and without its version."""
    paths = (f"/v2/models/{{name:path}}/versions/{{version}}{end}", f"/v2/models/{{name:path}}{end}")
    return [Route(path, endpoint, methods=[method]) for path in paths]


ROUTES: list[Route] = list(
    itertools.chain(
        [
            Route("/v2", server, methods=["GET"]),
            Route("/v2/", server, methods=["GET"]),
            Route("/v2/health/live", live, methods=["GET"]),
            Route("/v2/models", model_list, methods=["GET"]),
            Route("/v2/repository/index", repository_index, methods=["POST"]),
            Route("/v2/repository/models/{name:path}/load", repository_load, methods=["POST"]),
            Route("/v2/repository/models/{name:path}/unload", repository_unload, methods=["POST"]),
        ],
        _of_model("", model_metadata),
    )
)
