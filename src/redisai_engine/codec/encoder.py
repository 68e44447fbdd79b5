"""
A user's input → the model's tensors.

Theory of operation: the input is unwrapped (`envelopes`), one array per field of the schema is taken out of it
(`fields`), each is fitted to its type (`values`), and the fields are laid out as the mapping's inputs say: one matrix
for all of them, or one tensor a field. Without a schema, arrays go to the inputs by name or by position. A frame of one
type takes a short way: one matrix out of pandas, one copy.

Invariant: all tensors that have rows have the same number of them, at least one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from redisai_engine.codec.envelopes import unwrap
from redisai_engine.codec.errors import InvalidInput
from redisai_engine.codec.fields import is_frame, take_columns, take_tensors, without_schema
from redisai_engine.codec.mapping import Input, Mapping
from redisai_engine.codec.tokens import tokenize
from redisai_engine.codec.values import Array, fit
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import Tensor, UnsupportedDType


def encode(inputs: Any, mapping: Mapping) -> list[Tensor]:
    """
    Gives the tensors for the model's inputs, in their order, all rows in one; see split().

    Raises InvalidInput naming the column or tensor, what was expected and what came.
    """
    fast = _short_way(inputs, mapping)
    if fast is not None:
        return fast
    if inputs is None:
        raise InvalidInput("there is no input; give a DataFrame, a Series, an array, a dict of arrays, or a list")
    arrays = _arrays(unwrap(inputs, _own_names(mapping)), mapping)
    fitted = mapping.schema is not None
    result = [_tensor(array, item, fitted=fitted) for array, item in zip(arrays, mapping.inputs, strict=True)]
    _check_rows(result, mapping)
    return result


def _arrays(inputs: Any, mapping: Mapping) -> list[Array]:
    schema = mapping.schema
    if schema is None:
        return without_schema(inputs, mapping.inputs)
    if schema.kind == "columns":
        columns = take_columns(inputs, schema)
        if mapping.text is not None:
            return tokenize(columns[0].tolist(), mapping)
        return [_lay_out(item, columns) for item in mapping.inputs]
    tensors = take_tensors(inputs, schema)
    return [tensors[item.fields[0]] for item in mapping.inputs]


def _own_names(mapping: Mapping) -> tuple[str, ...]:
    if mapping.schema is not None and mapping.schema.named:
        return mapping.schema.names()
    return tuple(item.name for item in mapping.inputs)


def _lay_out(item: Input, columns: list[Array]) -> Array:
    chosen = [columns[index] for index in item.fields]
    if len(chosen) > 1:
        return np.column_stack(chosen)
    return chosen[0] if item.shape is not None and len(item.shape) == 1 else chosen[0].reshape(-1, 1)


def _tensor(array: Array, item: Input, *, fitted: bool) -> Tensor:
    """Makes the tensor of an input; `fitted`: the array has the schema's type already."""
    what = f"tensor {item.name!r}"
    if item.dtype is None:
        return _as_it_comes(array, what)
    if item.shape is not None and array.ndim != len(item.shape):
        array = _with_rank(array, item, what)
    if not (fitted and array.dtype == item.dtype.numpy):
        array = fit(array, item.dtype, what, item.dtype.name)
    try:
        return Tensor.from_array(array)
    except ValueError as error:
        raise InvalidInput(f"{what}: {error}") from None


def _with_rank(array: Array, item: Input, what: str) -> Array:
    """A column of numbers is the same as a matrix of one column; all else must have the model's rank."""
    rank = len(item.shape or ())
    if array.ndim == 1 and rank == 2 and item.shape is not None and item.shape[1] in {1, None}:
        return array.reshape(-1, 1)
    if array.ndim == 2 and rank == 1 and array.shape[1] == 1:
        return array.reshape(-1)
    wanted = ", ".join("any" if length is None else str(length) for length in item.shape or ())
    raise InvalidInput(f"{what} must have the shape ({wanted}), got {array.shape}")


def _as_it_comes(array: Array, what: str) -> Tensor:
    """For a model whose types nobody recorded: floating point as FLOAT, which nearly all models take."""
    if array.dtype.kind == "f":
        array = array.astype(dtypes.FLOAT.numpy)
    if array.dtype.kind == "O":
        wanted = dtypes.STRING if any(isinstance(value, str) for value in array.flat) else dtypes.FLOAT
        array = fit(array, wanted, what, wanted.name)
    try:
        return Tensor.from_array(array)
    except UnsupportedDType as error:
        raise InvalidInput(f"{what}: {error}") from None


def _check_rows(tensors: list[Tensor], mapping: Mapping) -> None:
    for tensor, item in zip(tensors, mapping.inputs, strict=True):
        if 0 in tensor.shape:
            raise InvalidInput(f"the input has no rows: tensor {item.name!r} would have the shape {tensor.shape}")
        if item.shape is not None:
            _check_lengths(tensor, item)
    rows = {tensor.shape[0] for tensor, item in zip(tensors, mapping.inputs, strict=True) if mapping.has_rows(item)}
    if len(rows) > 1:
        counts = ", ".join(
            f"{item.name}: {tensor.shape[0]}" for tensor, item in zip(tensors, mapping.inputs, strict=True)
        )
        raise InvalidInput(f"all tensors must have the same number of rows, got {counts}")


def _check_lengths(tensor: Tensor, item: Input) -> None:
    for axis, (length, expected) in enumerate(zip(tensor.shape, item.shape or (), strict=True)):
        # The first axis counts rows, which split() makes fit.
        if axis and expected is not None and length != expected:
            raise InvalidInput(
                f"tensor {item.name!r} must have {expected} values along axis {axis}, got the shape {tensor.shape}"
            )


# -- the short way ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ShortForm:
    """What the only input must be to go the short way; `names` None: an array; `finite`: no NaN and no infinity."""

    names: list[str] | None
    dtype: DType
    width: int
    finite: bool


def _short_form(mapping: Mapping) -> _ShortForm | None:
    schema = mapping.schema
    if schema is None or len(mapping.inputs) != 1 or mapping.inputs[0].dtype in {None, dtypes.STRING}:
        return None
    item = mapping.inputs[0]
    if item.dtype is None or item.shape is None or len(item.shape) != 2 or item.shape[1] is None:
        return None
    if any(one.dtype is not item.dtype for one in schema.fields):
        return None
    finite = item.dtype.is_float and not all(one.gaps for one in schema.fields)
    if schema.kind == "tensors":
        return None if schema.named else _ShortForm(None, item.dtype, item.shape[1], finite)
    in_order = item.fields == tuple(range(len(schema.fields)))
    return _ShortForm(list(schema.names()), item.dtype, item.shape[1], finite) if schema.named and in_order else None


def _short_way(inputs: Any, mapping: Mapping) -> list[Tensor] | None:
    """Encodes a frame or matrix that is exactly what the only input wants; None: it must go the long way."""
    if "short" not in mapping.cache:
        mapping.cache["short"] = _short_form(mapping)
    form: _ShortForm | None = mapping.cache["short"]
    if form is None:
        return None
    if form.names is None:
        matrix = inputs
    elif is_frame(inputs) and _has_columns(inputs, form.names, mapping):
        matrix = inputs.to_numpy()
    else:
        return None
    if type(matrix) is not np.ndarray or matrix.dtype != form.dtype.numpy:
        return None
    shape = matrix.shape
    if len(shape) != 2 or shape[1] != form.width or not shape[0]:
        return None
    # The long way knows which columns may have gaps, and says so.
    if form.finite and not np.isfinite(matrix).all():
        return None
    return [Tensor(form.dtype, shape, matrix.tobytes())]


def _has_columns(frame: Any, names: list[str], mapping: Mapping) -> bool:
    """Tells whether a frame has these columns, without reading them if they are those of the frame before."""
    columns = frame.columns
    # An index never changes, and the frames that are cut from one frame share it.
    if columns is mapping.cache.get("columns"):
        return True
    if columns.tolist() != names:
        return False
    mapping.cache["columns"] = columns
    return True
