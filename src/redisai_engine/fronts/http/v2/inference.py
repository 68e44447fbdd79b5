"""
`POST /v2/models/{name}/infer`: from a request to the model's run, and from its outputs to the response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from redisai_engine.backends.base import Array
from redisai_engine.commands.ai.resolving import resolve_model
from redisai_engine.commands.budget import reply_budget
from redisai_engine.commands.steps import Encode, Run, RunRequest
from redisai_engine.errors import EngineError
from redisai_engine.execution.job import TIMED_OUT, Job
from redisai_engine.fronts.http.access.calls import SMALL_BODY, Call, HttpAnswer, body_of, check_weight
from redisai_engine.fronts.http.access.connection import Steps
from redisai_engine.fronts.http.access.failures import RequestRefused, WaitedTooLong, bad_request
from redisai_engine.fronts.http.v2.columns import infer_by_signature, is_by_signature
from redisai_engine.fronts.http.v2.models import V2Model, v2_model
from redisai_engine.fronts.http.v2.requests import InferRequest, ManyTexts, parse_request
from redisai_engine.fronts.http.v2.tensors import datatype_of, to_binary, to_json

#: The only version that a deployment has here. An empty one asks for whatever there is.
VERSION = "1"
_QUICK_TEXTS = 1000  # that are read or written in the event loop
_OCTETS = b"application/octet-stream"
_JSON_SIZE = b"inference-header-content-length"
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def infer(call: Call) -> Steps[HttpAnswer]:
    """Run the model on the request's inputs. Raise EngineError."""
    watch = call.watch
    check_version(call)
    json_size = _json_size(call)
    body = yield from body_of(call)
    if (len(body) if json_size is None else json_size) > SMALL_BODY:
        check_weight(body if json_size is None else body[:json_size], call.client.engine.settings.tensor_limit)
        request = yield Encode(lambda: parse_request(body, json_size))
    else:
        try:
            request = parse_request(body, json_size, most_texts=_QUICK_TEXTS)
        except ManyTexts:
            request = yield Encode(lambda: parse_request(body, json_size))
    seconds = request.timeout_seconds
    deadline = None if seconds is None else call.client.engine.loop.time() + seconds
    stored = yield from resolve_model(call.client, call.name)
    if is_by_signature(request, stored):
        outputs = yield from infer_by_signature(call, request, deadline, watch)
    else:
        model = v2_model(stored)
        arrays = inputs_of(request, model)
        watch.end(b"prepare")
        jobs: list[Job] = []
        (outcome,) = yield Run([RunRequest(model.model, arrays)], deadline, jobs=jobs)
        outputs = outputs_of(request, model, outcome)
        watch.ran(jobs)
        reply_budget(call.client.engine.settings).take(sum([array.nbytes for array in outputs.values()]))
    if all(_is_quick(array, as_binary=request.is_binary(name)) for name, array in outputs.items()):
        answer = _response(call, request, outputs)
    else:
        answer = yield Encode(lambda: _response(call, request, outputs))
    watch.end(b"encode")
    answer.headers = [*answer.headers, (b"x-deployment", call.shown), watch.header()]
    return answer


def _is_quick(array: Array, *, as_binary: bool) -> bool:
    """Return whether an output is written so fast that no thread is needed for it."""
    if array.dtype.kind in "OUS":
        return array.size <= _QUICK_TEXTS
    return as_binary or array.nbytes <= SMALL_BODY


def check_version(call: Call) -> None:
    """Raise RequestRefused for a version that no deployment has."""
    if call.version not in ("", VERSION):
        raise RequestRefused(404, f"there is no version {call.version!r:.40} of this model; it has version {VERSION}")


def _json_size(call: Call) -> int | None:
    text = call.header(_JSON_SIZE)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        raise bad_request(f"Inference-Header-Content-Length must be a number of bytes, got {text[:40]!r}")
    return int(text)


def inputs_of(request: InferRequest, model: V2Model) -> list[Array]:
    """Return the arrays in the order of the model's inputs. Raise RequestRefused for a missing or unknown one."""
    given = request.inputs
    return [item.fitted(given[item.name].array, is_carried=model.is_carried) for item in model.inputs]


def outputs_of(request: InferRequest, model: V2Model, outcome: Any) -> dict[str, Array]:
    """Return the wanted outputs of a run by name. Raise the run's error."""
    if outcome is TIMED_OUT:
        raise WaitedTooLong
    if isinstance(outcome, EngineError):
        raise outcome
    made = dict(zip(model.outputs, outcome, strict=True))
    for name, dtype in model.restored.items():
        made[name] = made[name].astype(dtype)
    if request.outputs is None:
        return {name: array for name, array in made.items() if array is not None}
    found = {}
    for name in request.outputs:
        array = made.get(name)
        if array is None:
            problem = "isn't a tensor" if name in made else f"isn't one of {_listed(model.outputs)}"
            raise bad_request(f"output {name!r} {problem}")
        found[name] = array
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _response(call: Call, request: InferRequest, outputs: dict[str, Array]) -> HttpAnswer:
    listed = []
    binaries = []
    for name, array in outputs.items():
        item: dict[str, Any] = {"name": name, "datatype": datatype_of(array.dtype), "shape": array.shape}
        if request.is_binary(name):
            raw = to_binary(array)
            binaries.append(raw)
            item["parameters"] = {"binary_data_size": len(raw)}
        else:
            item["data"] = to_json(array)
        listed.append(item)
    document: dict[str, Any] = {
        "model_name": call.name.decode("utf-8", "replace"),
        "model_version": VERSION,
        "outputs": listed,
    }
    if request.id is not None:
        document["id"] = request.id
    text = orjson.dumps(document, option=_NUMPY)
    if not binaries:
        return HttpAnswer(text)
    return HttpAnswer(text, 200, _OCTETS, [(_JSON_SIZE, b"%d" % len(text))], binaries)
