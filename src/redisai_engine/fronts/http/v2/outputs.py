"""
Around a run of V2: the model's inputs from a request, and the response from the model's outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from redisai_engine.backends.base import Array
from redisai_engine.errors import EngineError
from redisai_engine.execution.job import TIMED_OUT
from redisai_engine.fronts.http.access.answers import HttpAnswer
from redisai_engine.fronts.http.access.calls import SMALL_BODY
from redisai_engine.fronts.http.access.failures import WaitedTooLong, bad_request
from redisai_engine.fronts.http.v2.models import V2Model
from redisai_engine.fronts.http.v2.requests import JSON_SIZE, InferRequest
from redisai_engine.fronts.http.v2.tensors import datatype_of, to_binary, to_json
from redisai_engine.protocol.tensor import Buffer

#: The only version that a deployment has here. An empty one asks for whatever there is.
VERSION = "1"
#: Texts that are read or written in the event loop.
QUICK_TEXTS = 1000
_OCTETS = b"application/octet-stream"
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


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


def response(model: bytes, request: InferRequest, outputs: dict[str, Array]) -> HttpAnswer:
    """Return the response to a request with these outputs of the model of this name."""
    listed = []
    binaries: list[Buffer] = []
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
        "model_name": model.decode("utf-8", "replace"),
        "model_version": VERSION,
        "outputs": listed,
    }
    if request.id is not None:
        document["id"] = request.id
    text = orjson.dumps(document, option=_NUMPY)
    if not binaries:
        return HttpAnswer(text)
    return HttpAnswer(text, 200, _OCTETS, [(JSON_SIZE, b"%d" % len(text))], binaries)


def is_quick(request: InferRequest, outputs: dict[str, Array]) -> bool:
    """Return whether the outputs are written so fast that no thread is needed for it."""
    for name, array in outputs.items():  # noqa: SIM110  # faster than all()
        if not _is_quick(array, as_binary=request.is_binary(name)):
            return False
    return True


def _is_quick(array: Array, *, as_binary: bool) -> bool:
    """Return whether an output is written so fast that no thread is needed for it."""
    if array.dtype.kind in "OUS":
        return bool(array.size <= QUICK_TEXTS)
    return as_binary or bool(array.nbytes <= SMALL_BODY)
