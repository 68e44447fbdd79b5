"""
What a worker passes to a model's `predict`, and how it returns the answer: as tensors, or as a parcel.

A part of `program.py`, which loads this file by its path, in any Python from 3.9. What a parcel is says
`protocol/parcels/`, which is loaded in the same way.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_WIDENED = {"float16": "float32", "uint32": "int64", "uint64": "int64"}  # to the smallest type that RedisAI has
_CODES = ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "b1")
_MAGIC = b"\x93RAIPF\x01\x00"  # a parcel begins with it


class Refused(Exception):
    """A model, input or answer that can't be used. The text says why."""


class Model:
    """
    The MLflow model in a folder. `about` has the names of its inputs and outputs.

    `parcels` and `exact` are the modules of these names.
    """

    def __init__(self, folder: str, about: dict[str, Any], parcels: Any, exact: Any) -> None:
        pyfunc = importlib.import_module("mlflow.pyfunc")
        self.version: str = sys.modules["mlflow"].__version__
        self._inputs: list[str] = about["inputs"]
        self._outputs: list[str] = about["outputs"]
        self._parcels = parcels
        model = pyfunc.load_model(folder)
        self._predict: Callable[..., Any] = model.predict
        self._takes_params = "params" in inspect.signature(model.predict).parameters
        streams = model.metadata.flavors["python_function"].get("streamable", False)
        self._predict_stream: Callable[..., Any] | None = getattr(model, "predict_stream", None) if streams else None
        self._schema = _input_schema(model)
        self._exact = exact.ExactFrames(model)

    def run(self, arrays: list[Any]) -> list[Any]:
        """Answer a parcel by a parcel, and tensors by tensors."""
        if not _is_parcel(arrays):
            return _tensors(self._predict(self._input(arrays)), self._outputs)
        frame = self._exact.frame(arrays[0])
        if frame is not None:
            return [self._parcel(self._exact.predict(frame))]
        value, params = self._opened(arrays[0])
        return [self._parcel(self._predict(value) if params is None else self._predict(value, params=params))]

    def stream(self, arrays: list[Any]) -> Iterator[list[Any]]:
        """Yield what predict_stream yields, each item as `run` would answer it. Closing this closes that."""
        predict = self._predict_stream
        if predict is None:
            raise Refused("the model has no predict_stream; it gives whole answers only")
        is_parcel = _is_parcel(arrays)
        value, params = self._opened(arrays[0]) if is_parcel else (self._input(arrays), None)
        items = iter(predict(value) if params is None else predict(value, params=params))
        try:
            for item in items:
                yield [self._parcel(item)] if is_parcel else _tensors(item, self._outputs)
        finally:
            if hasattr(items, "close"):
                items.close()

    def _opened(self, parcel: Any) -> tuple[Any, Any]:
        """Return the value and the params of a parcel."""
        try:
            value, params = self._parcels.unpack(parcel)
        except ValueError as error:
            raise Refused(str(error)) from error
        if params is not None and not self._takes_params:
            raise Refused(f"params need MLflow 2.7 or later; the model's environment has {self.version}")
        return value, params

    def _parcel(self, answer: Any) -> Any:
        try:
            return np.frombuffer(self._parcels.pack(answer), "u1")
        except TypeError as error:
            raise Refused(f"the model's answer can't be sent: {error}") from error

    def _input(self, arrays: list[Any]) -> Any:
        """Return what predict takes: an array, a frame with the signature's columns, or a dict of arrays."""
        has_columns = self._schema is not None and not self._schema.is_tensor_spec()
        if has_columns and len(arrays) > 1:
            return _frame_of(dict(zip(self._inputs, map(_column, arrays))), self._schema)
        if has_columns and arrays[0].ndim in (1, 2):
            names = self._schema.input_names()
            rows = arrays[0].reshape(len(arrays[0]), -1) if arrays[0].ndim == 1 else arrays[0]
            if names and rows.shape[1] == len(names):
                return _frame_of({name: rows[:, number] for number, name in enumerate(names)}, self._schema)
        if self._schema is not None and not has_columns:
            return _named(self._inputs, arrays, self._schema)
        return arrays[0] if len(arrays) == 1 else dict(zip(self._inputs, arrays))


def _is_parcel(arrays: list[Any]) -> bool:
    first: Any = arrays[0] if len(arrays) == 1 else None
    return first is not None and first.ndim == 1 and first.dtype.char == "B" and bytes(first[:8]) == _MAGIC


def _input_schema(model: Any) -> Any:
    """Return the schema of the model's inputs, or None if it has none."""
    schema = model.metadata.get_input_schema()
    return schema if schema is not None and schema.inputs else None


def _frame_of(columns: dict[str, Any], schema: Any) -> Any:
    """Return a frame whose columns have the signature's types where no value changes by that."""
    pandas = importlib.import_module("pandas")
    types = {spec.name: spec.type for spec in schema.inputs}
    return pandas.DataFrame({name: _cast(values, types.get(name)) for name, values in columns.items()})


def _cast(values: Any, wanted: Any) -> Any:
    if not hasattr(wanted, "to_numpy") or values.dtype.kind == "O":  # nested types, and text
        return values
    dtype = wanted.to_numpy()
    with contextlib.suppress(TypeError, ValueError):
        cast = values.astype(dtype)
        if dtype.kind in "biuf" and (cast == values).all():
            return cast
    return values


def _column(array: Any) -> Any:
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim != 1:
        raise Refused(f"an input of shape {list(array.shape)} is no column: it must have one value for each row")
    return array


def _named(names: list[str], arrays: list[Any], schema: Any) -> Any:
    """Return tensors in the signature's types where these hold all values: one alone, or by name."""
    wanted = {spec.name: spec.type for spec in schema.inputs}
    if not schema.has_input_names() and len(arrays) == 1:
        return _as_type(arrays[0], schema.inputs[0].type)
    if len(arrays) == 1 and len(wanted) == 1:  # whatever the client calls it
        names = list(wanted)
    return {name: _as_type(array, wanted.get(name, array.dtype)) for name, array in zip(names, arrays)}


def _as_type(array: Any, dtype: Any) -> Any:
    return array.astype(dtype) if array.dtype != dtype and np.can_cast(array.dtype, dtype, "safe") else array


# The answer


def _tensors(answer: Any, names: list[str]) -> list[Any]:
    """Return one array for each output. Raise Refused for an answer that tensors can't hold."""
    if len(names) == 1:
        return [_tensor(_only(answer, names[0]), names[0])]
    return [_tensor(value, name) for name, value in zip(names, _several(answer, names))]


def _only(answer: Any, name: str) -> Any:
    if isinstance(answer, dict):
        if name in answer or len(answer) == 1:
            return answer.get(name, next(iter(answer.values())))
        raise Refused(f"the answer has the entries {_listed(answer)}, but the model was stored with one output, {name}")
    if hasattr(answer, "columns") and hasattr(answer, "iloc") and len(answer.columns) == 1:
        return answer.iloc[:, 0]
    return answer


def _several(answer: Any, names: list[str]) -> list[Any]:
    is_frame = hasattr(answer, "columns") and hasattr(answer, "iloc")
    if isinstance(answer, dict) or is_frame:
        there = list(answer.columns) if is_frame else list(answer)
        if set(names) <= set(there):
            return [answer[name] for name in names]
        if len(there) == len(names):
            return [answer.iloc[:, number] if is_frame else answer[name] for number, name in enumerate(there)]
        raise Refused(f"the answer has {_listed(there)}, but the model was stored with the outputs {_listed(names)}")
    if isinstance(answer, (list, tuple)) and len(answer) == len(names):
        return list(answer)
    raise Refused(f"the answer is one {type(answer).__name__}, but the model was stored with outputs {_listed(names)}")


def _tensor(value: Any, name: str) -> Any:
    """Return an array of a type that RedisAI has. Raise Refused if no type can hold the values."""
    if hasattr(value, "toarray"):  # a sparse matrix
        value = value.toarray()
    try:
        array = value.to_numpy() if hasattr(value, "to_numpy") else np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise Refused(f"output {name} can't be a tensor: {error}") from error
    if array.dtype.kind == "O":
        array = _of_objects(array, name)
    if array.dtype.kind == "U":
        array = array.astype(object)
    if array.dtype.kind == "O" and any("\0" in text for text in array.ravel().tolist()):
        raise Refused(f"output {name} has text with a zero byte inside, which no tensor can hold")
    if array.dtype.name == "uint64" and array.size and int(array.max()) > 2**63 - 1:
        raise Refused(f"output {name} (uint64) has the value {array.max()}, which INT64 can't hold")
    array = array.astype(_WIDENED.get(array.dtype.name, array.dtype), copy=False)
    if array.dtype.kind != "O" and array.dtype.str[1:] not in _CODES:
        raise Refused(f"output {name} has elements of type {array.dtype}, which no tensor can hold")
    return array


def _of_objects(array: Any, name: str) -> Any:
    """Return objects that are all text as such, and numbers as numbers."""
    elements = array.ravel().tolist()
    if all(isinstance(element, str) for element in elements):
        return array
    kinds = sorted({type(element).__name__ for element in elements})
    if not all(isinstance(element, (bool, int, float)) for element in elements):
        raise Refused(f"output {name} has elements of the types {', '.join(kinds[:5])}, which no tensor can hold")
    return np.array(elements).reshape(array.shape)


def _listed(names: Any) -> str:
    shown = [str(name)[:100] for name in names]
    return ", ".join(shown[:10]) + (", ..." if len(shown) > 10 else "")
