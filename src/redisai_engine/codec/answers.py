"""
From the model's tensors to the answer that mlflow.pyfunc returns (`decode`), and from there to JSON (`plain`).

Invariant: an answer shares no memory with the tensors, which are views of bytes from the network. Every answer has a
JSON form, in which NaN and infinities are null, because JSON lacks them.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from redisai_engine.codec.errors import AnswerMismatch
from redisai_engine.codec.fields import is_frame, is_series
from redisai_engine.codec.mapping import Container, Mapping, Part
from redisai_engine.protocol.parcels import unpack
from redisai_engine.protocol.tensor import Tensor


def decode(tensors: Sequence[Tensor], mapping: Mapping, inputs: Any = None) -> Any:
    """
    Return what mlflow.pyfunc would have returned, in its container.

    `tensors` are the fetched ones, in the order of `mapping.fetch`. `inputs` is the user's input. It matters only for
    models without a signature, whose container depends on it.

    Raise AnswerMismatch for tensors of other types and shapes than the mapping was made for.
    """
    try:
        return _decoded(tensors, mapping, inputs)
    # The mapping says what becomes of the tensors, the server which they are. NumPy says where the two don't fit.
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise AnswerMismatch(tensors, str(error)) from error


def _decoded(tensors: Sequence[Tensor], mapping: Mapping, inputs: Any) -> Any:
    parts = mapping.answer.parts
    if mapping.parcel:
        return unpack(tensors[0].blob)[0]
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
    if container == "ranking":
        return _ranking(named)
    return _frame(named) if container == "dataframe" else _listed(named, mapping, as_frame=container == "cells")


# The container to use, by whether the input was a frame.
_LIKE_INPUT: dict[Container, dict[bool, Container]] = {
    "like input": {True: "dataframe", False: "dict"},
    "matrix like input": {True: "matrix", False: "ndarray"},
    "cells like input": {True: "cells", False: "listed"},
}


def _value(tensor: Tensor, part: Part) -> Any:
    array = tensor.array()
    # Always a copy: the tensor is a read-only view of bytes from the network.
    array = array.astype(array.dtype if part.dtype is None else part.dtype)
    if part.shape is not None:
        array = array.reshape(part.shape)
    if part.choices:
        return np.array(part.choices, object)[array]
    if part.labels:
        return [dict(zip(part.labels, row, strict=True)) for row in array.tolist()]
    return array


def _matrix(values: Any, inputs: Any) -> Any:
    """Return a frame whose rows have the index labels of the input."""
    import pandas as pd

    # A frame with an envelope in it has other rows than the input.
    known = (is_frame(inputs) or is_series(inputs)) and len(inputs) == len(values)
    return pd.DataFrame(values, index=inputs.index if known else None)


def _frame(named: dict[str, Any]) -> Any:
    """
    Return the frame that MLflow's onnx flavor makes.

    If the columns differ in length, return the arrays themselves.
    """
    import pandas as pd

    columns = {name: value if isinstance(value, list) else value.reshape(-1) for name, value in named.items()}
    if len({len(column) for column in columns.values()}) > 1:
        return named
    return pd.DataFrame(columns)


def _ranking(named: dict[str, Any]) -> Any:
    """Return the frame that MLflow makes of a pipeline's lists of dicts: a column for each place."""
    import pandas as pd

    rows = zip(*[value.tolist() for value in named.values()], strict=True)
    return pd.DataFrame([[dict(zip(named, cell, strict=True)) for cell in zip(*row, strict=True)] for row in rows])


def _listed(named: dict[str, Any], mapping: Mapping, *, as_frame: bool) -> Any:
    """Return lists for all parts that aren't flattened, or cells of a frame, as MLflow does for old SavedModels."""
    flat = {part.name for part in mapping.answer.parts if part.shape == (-1,)}
    listed = {name: value if name in flat else value.tolist() for name, value in named.items()}
    if not as_frame:
        return listed
    import pandas as pd

    return pd.DataFrame(listed)


# -- from answer to JSON -----------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return an answer, with everything in it, as JSON values: a frame as records, an array as nested lists."""
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
        # NaT is a datetime that is unequal to itself.
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
