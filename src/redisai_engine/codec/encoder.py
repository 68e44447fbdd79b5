"""
From a user's input to the model's tensors.

Theory of operation. The input is unwrapped (`envelopes`). One array for each field of the schema is taken out of it
(`fields`) and converted to the field's type (`values`). The mapping's inputs say how the fields become tensors: all of
them as one matrix, or one tensor for each field. Without a schema, arrays are assigned to the inputs by name or by
position. A frame with columns of a single type takes a fast path: pandas gives one matrix, which is copied once.

Invariant: all tensors with rows have the same number of rows, at least one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from redisai_engine.codec.envelopes import Document, check_params, for_python, unwrap
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.fields import is_frame, take_columns, take_tensors, without_schema
from redisai_engine.codec.mapping import Field, Input, Mapping, Name
from redisai_engine.codec.tokens import Tokenizer
from redisai_engine.codec.values import Array, fit
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.parcels import pack
from redisai_engine.protocol.tensor import Tensor


class Encoder:
    """
    Encodes inputs by one mapping. Build one for each mapping and keep it, because it caches what inputs have in common.

    Many threads may use it. Raise PackageNotInstalled if the model takes text and the package tokenizers isn't
    installed.
    """

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self._fast_path = _FastPath.of(mapping)
        self._tokenizer = None if mapping.text is None else Tokenizer(mapping.text)

    def encode(self, inputs: Any, source: Document | None = None, params: dict[str, Any] | None = None) -> list[Tensor]:
        """
        Return the tensors for the model's inputs, in order, each with all rows. `prediction.split` makes requests of
        them.

        `inputs` is a DataFrame, a Series, an array, a dict, a list or a parsed JSON `Document`. `source` is the
        document from which a frame was read, if there is one. The values are taken from it unless the frame is exactly
        what the model takes, because pandas may have converted them. `params` are values of the signature's parameters.

        Raise InputMismatch, which names the column or tensor, what was expected and what was found.
        """
        if self.mapping.parcel:
            return [_parcel(inputs if source is None else source, self.mapping, params)]
        if params is not None:
            check_params(params, self.mapping.params)
        if self._fast_path is not None:
            whole = self._fast_path.tensor(inputs)
            if whole is not None:
                return [whole]
        if inputs is None:
            raise InputMismatch("there is no input; pass a DataFrame, a Series, an array, a dict of arrays, or a list")
        arrays = self._arrays(
            unwrap(inputs if source is None else source, _own_names(self.mapping), self.mapping.params)
        )
        fitted = self.mapping.schema is not None
        result = [_tensor(array, item, fitted=fitted) for array, item in zip(arrays, self.mapping.inputs, strict=True)]
        _check_rows(result, self.mapping)
        return result

    def _arrays(self, inputs: Any) -> list[Array]:
        schema = self.mapping.schema
        if schema is None:
            return without_schema(inputs, self.mapping.inputs)
        if schema.kind == "columns":
            columns = take_columns(inputs, schema)
            if self._tokenizer is not None:
                return self._tokenizer.tokenize(columns[0].tolist())
            return [_lay_out(item, columns) for item in self.mapping.inputs]
        tensors = take_tensors(inputs, schema)
        return [tensors[item.fields[0]] for item in self.mapping.inputs]


def _parcel(inputs: Any, mapping: Mapping, params: dict[str, Any] | None) -> Tensor:
    """Return the tensor for a Python model, which takes what anybody passes to pyfunc."""
    if isinstance(inputs, Document):
        inputs, found = for_python(inputs.value, mapping.schema, [name for name, _ in mapping.params])
        params = found if params is None else params
    try:
        packed = pack(inputs, params)
    except TypeError as error:
        raise InputMismatch(str(error)) from None
    return Tensor(dtypes.UINT8, (len(packed),), packed)


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
    """Return the tensor for an input. `fitted` means that the array has the schema's type already."""
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
        raise InputMismatch(f"{what}: {error}") from None


def _with_rank(array: Array, item: Input, what: str) -> Array:
    """Return the array with the model's rank. Only a column and a matrix of one column may stand in for each other."""
    rank = len(item.shape or ())
    if array.ndim == 1 and rank == 2 and item.shape is not None and item.shape[1] in {1, None}:
        return array.reshape(-1, 1)
    if array.ndim == 2 and rank == 1 and array.shape[1] == 1:
        return array.reshape(-1)
    wanted = ", ".join("any" if length is None else str(length) for length in item.shape or ())
    raise InputMismatch(f"{what} must have the shape ({wanted}), got {array.shape}")


def _as_it_comes(array: Array, what: str) -> Tensor:
    """Return the tensor for an input of unknown type: floating point as FLOAT, which nearly all models take."""
    if array.dtype.kind == "f":
        array = fit(array, dtypes.FLOAT, what, dtypes.FLOAT.name)
    if array.dtype.kind == "O":
        wanted = dtypes.STRING if any(isinstance(value, str) for value in array.flat) else dtypes.FLOAT
        array = fit(array, wanted, what, wanted.name)
    try:
        return Tensor.from_array(array)
    except ValueError as error:
        raise InputMismatch(f"{what}: {error}") from None


def _check_rows(tensors: list[Tensor], mapping: Mapping) -> None:
    for tensor, item in zip(tensors, mapping.inputs, strict=True):
        if 0 in tensor.shape:
            raise InputMismatch(f"the input has no rows: tensor {item.name!r} would have the shape {tensor.shape}")
        if item.shape is not None:
            _check_lengths(tensor, item)
    rows = {tensor.shape[0] for tensor, item in zip(tensors, mapping.inputs, strict=True) if mapping.has_rows(item)}
    if len(rows) > 1:
        counts = ", ".join(
            f"{item.name}: {tensor.shape[0]}" for tensor, item in zip(tensors, mapping.inputs, strict=True)
        )
        raise InputMismatch(f"all tensors must have the same number of rows, got {counts}")


def _check_lengths(tensor: Tensor, item: Input) -> None:
    shape = item.shape or ()
    if len(tensor.shape) != len(shape):
        raise InputMismatch(f"tensor {item.name!r} must have {len(shape)} axes, got the shape {tensor.shape}")
    for axis, (length, expected) in enumerate(zip(tensor.shape, shape, strict=True)):
        # The first axis counts rows. split() makes it fit.
        if axis and expected is not None and length != expected:
            raise InputMismatch(
                f"tensor {item.name!r} must have {expected} values along axis {axis}, got the shape {tensor.shape}"
            )


def _largest(fields: Sequence[Field], dtype: DType) -> float | None:
    """Return the largest number of this type that all fields accept, or None if they accept all that the type has."""
    limits = [item.largest for item in fields if item.largest is not None]
    if not dtype.is_float:
        # As an integer, because float64 rounds the large ones.
        return int(min(limits)) if limits else None
    if not limits and all(item.gaps and item.infinite for item in fields):
        return None
    return min([float(np.finfo(dtype.numpy).max), *limits])


# -- the fast path --------------------------------------------------------------------------------


class _FastPath:
    """
    The fast path of a model whose only input is one matrix: for a frame or an array that already is that matrix.

    `names` are the frame's columns, None for an array. A matrix that has NaN or numbers beyond `largest` isn't taken,
    unless that is None.
    """

    def __init__(self, names: list[Name] | None, dtype: DType, width: int, largest: float | None) -> None:
        self._names = names
        self._dtype = dtype
        self._width = width
        self._largest = largest
        # The columns index of the latest frame. Threads may overwrite it: every index stored here has been compared.
        self._columns: Any = None

    @classmethod
    def of(cls, mapping: Mapping) -> _FastPath | None:
        """Return the fast path for a model, or None if the model has none."""
        schema = mapping.schema
        if schema is None or len(mapping.inputs) != 1:
            return None
        item = mapping.inputs[0]
        if item.dtype is None or item.dtype.is_string:
            return None
        if item.shape is None or len(item.shape) != 2 or item.shape[1] is None:
            return None
        if any(one.dtype is not item.dtype or not one.used for one in schema.fields):
            return None
        if any(one.known is not None or one.least is not None for one in schema.fields):
            return None
        largest = _largest(schema.fields, item.dtype)
        if schema.kind == "tensors":
            return None if schema.named else cls(None, item.dtype, item.shape[1], largest)
        if not schema.named or item.fields != tuple(range(len(schema.fields))):
            return None
        return cls(list(schema.labels()), item.dtype, item.shape[1], largest)

    def tensor(self, inputs: Any) -> Tensor | None:
        """Return the tensor of the only input, or None if this input must take the slow path."""
        if self._names is None:
            matrix = inputs
        elif is_frame(inputs) and self._has_columns(inputs):
            matrix = inputs.to_numpy()
        else:
            return None
        # Exactly ndarray: the numbers of a subclass, such as a masked array, are not all there is to it.
        if type(matrix) is not np.ndarray or matrix.dtype != self._dtype.numpy:
            return None
        shape = matrix.shape
        if len(shape) != 2 or shape[1] != self._width or not shape[0]:
            return None
        # The slow path knows what each column may hold, and names the one at fault.
        if self._largest is not None and not -self._largest <= matrix.min() <= matrix.max() <= self._largest:
            return None
        return Tensor(self._dtype, shape, matrix.tobytes())

    def _has_columns(self, frame: Any) -> bool:
        """
        Return whether a frame has these columns.

        Their names aren't read if the index is that of the latest frame.
        """
        columns = frame.columns
        # Indexes are immutable, and frames that are cut from one frame share its index.
        if columns is self._columns:
            return True
        if columns.tolist() != self._names:
            return False
        self._columns = columns
        return True
