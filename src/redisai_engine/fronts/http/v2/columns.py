"""
V2 with a column per input, as MLServer's clients send frames: inputs are named as in the model's MLflow signature.

The deployment's mapping makes the model's tensors of them, and what MLflow would answer of its outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from redisai_engine.fronts.http.v2.content_types import content_type, dates
from redisai_engine.fronts.http.v2.requests import InferRequest

_FRAME_ROWS = 1000  # from which on the work is left to a thread


def is_by_signature(request: InferRequest, model: RunnableModel) -> bool:
    """Return whether the inputs are the columns or tensors of a signature rather than the model's own."""
    if request.parameters and content_type(request.parameters) == "pd":
        return True
    return request.inputs.keys() != set(model.loaded.inputs)


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
    if array.ndim == 2 and array.shape[1] == 1:
        array = array.reshape(-1)
    return dates(array) if parameters and content_type(parameters) == "datetime" else array


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
