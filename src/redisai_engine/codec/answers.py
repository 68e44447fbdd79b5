"""
The model's tensors → the answer that mlflow.pyfunc gives, in its container (`decode`) → what JSON has (`plain`).

Invariant: an answer shares no memory with the tensors, which are views of what came over the wire. Every answer has a
plain form: NaN and infinities, which JSON lacks, are null.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from redisai_engine.codec.fields import is_frame, is_series
from redisai_engine.codec.mapping import Container, Mapping, Part
from redisai_engine.protocol.tensor import Tensor


def decode(tensors: Sequence[Tensor], mapping: Mapping, inputs: Any = None) -> Any:
    """
    Return what mlflow.pyfunc would have returned. `tensors` are the fetched ones, in the order of `mapping.fetch`.

    `inputs` is what the user gave; it matters only for models without a signature, whose container follows it.
    """
    parts = mapping.answer.parts
    values = [_value(tensor, part) for tensor, part in zip(tensors, parts, strict=True)]
    container = _LIKE_INPUT.get(mapping.answer.container, {}).get(is_frame(inputs), mapping.answer.container)
    if container == "ndarray":
        return values[0]
    if container == "matrix":
        return _matrix(values[0], inputs)
    if container == "list":
        return values
    if container == "stack":
        return np.stack(values)
    named = {part.name: value for part, value in zip(parts, values, strict=True)}
    if container == "dict":
        return named
    return _frame(named) if container == "dataframe" else _listed(named, mapping, as_frame=container == "cells")


# By whether the input was a frame.
_LIKE_INPUT: dict[Container, dict[bool, Container]] = {
    "like input": {True: "dataframe", False: "dict"},
    "matrix like input": {True: "matrix", False: "ndarray"},
    "cells like input": {True: "cells", False: "listed"},
}


def _value(tensor: Tensor, part: Part) -> Any:
    array = tensor.array()
    # Always a copy: the tensor is a read-only view of what came over the wire.
    array = array.astype(array.dtype if part.dtype is None else part.dtype)
    if part.shape is not None:
        array = array.reshape(part.shape)
    if part.choices:
        return np.array(part.choices, object)[array]
    if part.labels:
        return [dict(zip(part.labels, row, strict=True)) for row in array.tolist()]
    return array


def _matrix(values: Any, inputs: Any) -> Any:
    """Return a frame whose rows have the labels that they had in the input."""
    import pandas as pd

    # An envelope is a frame too, but its rows are others.
    known = (is_frame(inputs) or is_series(inputs)) and len(inputs) == len(values)
    return pd.DataFrame(values, index=inputs.index if known else None)


def _frame(named: dict[str, Any]) -> Any:
    """Return the frame that MLflow's onnx flavor makes; where it can make none, the arrays stay as they are."""
    import pandas as pd

    columns = {name: value if isinstance(value, list) else value.reshape(-1) for name, value in named.items()}
    if len({len(column) for column in columns.values()}) > 1:
        return named
    return pd.DataFrame(columns)


def _listed(named: dict[str, Any], mapping: Mapping, *, as_frame: bool) -> Any:
    """Return lists of all that isn't flattened, or a frame's cells, as MLflow does for old SavedModels."""
    flat = {part.name for part in mapping.answer.parts if part.shape == (-1,)}
    listed = {name: value if name in flat else value.tolist() for name, value in named.items()}
    if not as_frame:
        return listed
    import pandas as pd

    return pd.DataFrame(listed)


# -- answer → JSON -----------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return an answer, and all that it holds, as what JSON has: a frame as records, an array as nested lists."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (datetime.date, datetime.time)):
        # NaT is a datetime that differs from itself.
        return value.isoformat() if value == value else None  # noqa: PLR0124
    if value is None or isinstance(value, (str, int)):
        return value
    return _pandas_plain(value)


def _pandas_plain(value: Any) -> Any:
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict(orient="records"))
    if isinstance(value, (pd.Series, pd.Index)):
        return plain(value.tolist())
    if value is pd.NA or value is pd.NaT:
        return None
    return str(value)


def _key(key: Any) -> str:
    return str(key.item() if isinstance(key, np.generic) else key)
