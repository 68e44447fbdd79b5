"""
V2 with a column per input, as MLServer's clients send frames: inputs are named as in the model's MLflow signature.

The deployment's mapping makes the model's tensors of them, and what MLflow would answer of its outputs. What a content
type says, in `parameters`, is undone first: `base64` and `datetime` are texts, `np`, `pd` and `str` need nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from redisai_engine.backends.base import Array
from redisai_engine.execution.job import RunnableModel
from redisai_engine.fronts.http.access.answers import Stopwatch
from redisai_engine.fronts.http.access.calls import Call
from redisai_engine.fronts.http.access.connection import Steps
from redisai_engine.fronts.http.access.deployments import resolve_deployment
from redisai_engine.fronts.http.access.failures import bad_request
from redisai_engine.fronts.http.access.predicting import predict
from redisai_engine.fronts.http.v2.requests import InferRequest

_CONTENT_TYPES = ("np", "pd", "str", "base64", "datetime")
_FRAME_ROWS = 1000  # from which on the work is left to a thread


def is_by_signature(request: InferRequest, model: RunnableModel) -> bool:
    """Return whether the inputs are the columns or tensors of a signature rather than the model's own."""
    if request.parameters and content_type(request.parameters) == "pd":
        return True
    return request.inputs.keys() != set(model.loaded.inputs)


def content_type(parameters: Mapping[str, Any]) -> str | None:
    """Return MLServer's content type, without what follows a semicolon. Raise RequestRefused for an unknown one."""
    found = parameters.get("content_type")
    if found is None:
        return None
    kind = found.partition(";")[0].strip() if type(found) is str else found
    if kind not in _CONTENT_TYPES:
        raise bad_request(f"content_type can't be {found!r:.40}; allowed: {', '.join(_CONTENT_TYPES)}")
    return str(kind)


def infer_by_signature(
    call: Call, request: InferRequest, deadline: float | None, watch: Stopwatch
) -> Steps[dict[str, Array]]:
    """Return the answer to a request as arrays by name. Raise EngineError."""
    model, deployment = yield from resolve_deployment(call.client, call.name)
    schema = deployment.mapping.schema
    if not deployment.fields or schema is None:
        wanted, given = model.loaded.inputs, request.inputs
        missing = [name for name in wanted if name not in given]
        problem = f"input {missing[0]!r} is missing" if missing else "there are inputs that the model doesn't have"
        raise bad_request(f"{problem}; the model has {', '.join(wanted[:20])}")
    as_frame = deployment.mapping.answer.container.endswith("like input") and content_type(request.parameters) == "pd"
    rows = max((item.array.shape[0] for item in request.inputs.values() if item.array.ndim), default=0)

    def read() -> tuple[Any, Any]:
        columns = {name: _column(item.array, item.parameters) for name, item in request.inputs.items()}
        value = columns if schema.named else next(iter(columns.values()))
        inputs = _frame(columns) if as_frame and schema.named else value
        return inputs, inputs

    answer = yield from predict(
        call.client, model, deployment, read, deadline=deadline, is_large=as_frame or rows > _FRAME_ROWS, watch=watch
    )
    outputs = _outputs(answer)
    if request.outputs is None:
        return outputs
    unknown = [name for name in request.outputs if name not in outputs]
    if unknown:
        raise bad_request(f"there is no output {unknown[0]!r}; there are {', '.join(list(outputs)[:20])}")
    return {name: outputs[name] for name in request.outputs}


def _column(array: Array, parameters: Mapping[str, Any]) -> Array:
    kind = content_type(parameters) if parameters else None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array.reshape(-1)
    if kind not in ("base64", "datetime"):
        return array
    decode = _from_base64 if kind == "base64" else _from_iso
    decoded = np.empty(array.size, object)
    decoded[:] = [decode(value) for value in array.ravel().tolist()]
    return decoded.reshape(array.shape)


def _from_base64(value: Any) -> str:
    try:
        return base64.b64decode(str(value).encode("utf-8", "replace"), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        raise bad_request(f"{value!r:.40} isn't Base64, as its content_type says") from None


def _from_iso(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise bad_request(f"{value!r:.40} isn't a date and time as its content_type says: ISO 8601") from None


def _frame(columns: dict[str, Array]) -> Any:
    import pandas as pd

    try:
        return pd.DataFrame({name: array.tolist() for name, array in columns.items()})
    except ValueError as error:
        raise bad_request(f"the inputs don't make a frame: {error}") from None


def _outputs(answer: Any) -> dict[str, Array]:
    """Return an answer as arrays by name: columns of a frame, entries of a dict, or `output-1`."""
    if isinstance(answer, dict):
        return {str(name): _array(value) for name, value in answer.items()}
    if hasattr(answer, "columns"):
        return {str(name): _array(answer[name].to_numpy()) for name in answer.columns}
    if isinstance(answer, list) and answer and all(isinstance(value, np.ndarray) for value in answer):
        return {f"output-{number}": _array(value) for number, value in enumerate(answer, 1)}
    return {"output-1": _array(answer)}


def _array(value: Any) -> Array:
    array = value if isinstance(value, np.ndarray) else np.array(value)
    if array.dtype.kind in "biufUS":
        return array
    texts = np.empty(array.size, object)
    texts[:] = [item if isinstance(item, str) else _as_json(item) for item in array.ravel().tolist()]
    return texts.reshape(array.shape)


def _as_json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=str).decode()
