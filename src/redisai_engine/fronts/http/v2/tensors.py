"""
V2's tensors: datatypes, values as JSON or in binary form, and arrays.

They aren't RedisAI's: V2 has FP16, UINT32 and UINT64, tensors without rows, and text with zero bytes.

Invariant: an array that is returned is aligned, has the datatype's element type and the announced shape.
"""

from __future__ import annotations

import struct
import sys
from array import array as array_of
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from redisai_engine.backends.base import Array
from redisai_engine.fronts.http.access.failures import bad_request
from redisai_engine.protocol.replies import LARGE
from redisai_engine.protocol.tensor import Buffer

#: The NumPy type of each datatype. Text is an array of objects.
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}
_ARRAY_CODES = {
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}
#: The same types in Python's module `array`, which reads a list of numbers four times as fast as NumPy.
_CODES = {DATATYPES[name]: code for name, code in _ARRAY_CODES.items()} if sys.byteorder == "little" else {}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_MOST_DIMENSIONS = 32
_MOST_ELEMENTS = 2**40
_LENGTH = struct.Struct("<I")


def datatype_of(dtype: np.dtype[Any]) -> str:
    """Return V2's name of an element type. All that a model answers has one."""
    return _NAMES.get(dtype) or _NAMES[dtype.newbyteorder("<")] if dtype.kind not in "USO" else "BYTES"


def dtype_of(name: str, datatype: Any) -> np.dtype[Any]:
    """Return the element type of an input's datatype. Raise RequestRefused."""
    dtype = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise bad_request(f"input {name!r} has the datatype {datatype!r:.40}; allowed: {', '.join(DATATYPES)}")
    return dtype


def shape_of(name: str, shape: Any) -> tuple[int, ...]:
    """Return an input's shape. Raise RequestRefused unless it is a list of lengths."""
    if type(shape) is not list or not all(type(length) is int and length >= 0 for length in shape):
        raise bad_request(f"input {name!r} must have a shape, a list of numbers from 0, got {shape!r:.80}")
    if len(shape) > _MOST_DIMENSIONS:
        raise bad_request(f"input {name!r} has {len(shape)} dimensions; allowed: {_MOST_DIMENSIONS}")
    if prod(max(length, 1) for length in shape) > _MOST_ELEMENTS:
        raise bad_request(f"input {name!r} has the shape {shape!r:.80}, which no memory can hold")
    return tuple(shape)


# -- JSON ------------------------------------------------------------------------------------------


def from_json(name: str, data: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Return the array of an input's `data`, flat or nested. Raise RequestRefused."""
    if type(data) is not list:
        raise bad_request(f"input {name!r} must have data, a list of values, got {_kind(data)}")
    array = _texts(name, data) if dtype.kind == "O" else _flat(data, dtype)
    if array is None:
        array = _numbers(name, data, dtype)
    if array.size != prod(shape):
        raise bad_request(f"input {name!r} has {array.size} values, but its shape {list(shape)} has {prod(shape)}")
    return array.reshape(shape)


def _flat(data: list[Any], dtype: np.dtype[Any]) -> Array | None:
    """Return the array of a list of numbers that all fit the type; None for anything else, a nested list included."""
    code = _CODES.get(dtype)
    if code is None:
        return None
    try:
        return np.frombuffer(array_of(code, data), dtype)
    except (TypeError, OverflowError):
        return None


def _texts(name: str, data: list[Any]) -> Array:
    while data and type(data[0]) is list:
        if not all(type(part) is list for part in data):
            raise _ragged(name)
        data = list(chain.from_iterable(data))
    for value in data:
        if type(value) is not str:
            raise bad_request(f"input {name!r} is BYTES, so its values must be texts, got {_kind(value)}")
    array: Array = np.empty(len(data), object)
    array[:] = data
    return array


def _numbers(name: str, data: list[Any], dtype: np.dtype[Any]) -> Array:
    try:
        array = np.array(data)
    except (ValueError, OverflowError):
        raise _ragged(name) from None
    kind = array.dtype.kind
    if kind == dtype.kind == "f" or (kind == "i" and dtype.kind == "f") or not array.size:
        return _cast(array, dtype)
    if dtype.kind in "iu":
        return _integers(name, array, data, dtype)
    if dtype.kind == "b":
        if kind == "b" or (kind == "i" and array.min() >= 0 and array.max() <= 1):
            return array.astype(dtype)
        raise bad_request(f"input {name!r} is BOOL, so its values must be true or false")
    if kind == "u":
        return _cast(array, dtype)
    raise _no_numbers(name)


def _cast(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):  # too large for the type: infinity, as everywhere
        return array.astype(dtype)


def _integers(name: str, array: Array, data: list[Any], dtype: np.dtype[Any]) -> Array:
    if array.dtype.kind not in "iu":
        if array.dtype.kind not in "fO":
            raise _no_numbers(name)
        array = np.array(data, object)  # as they are: float64 can't tell large integers apart
        if not all(_is_whole(value) for value in array.flat):
            raise bad_request(f"input {name!r} is {_NAMES[dtype]}, so its values must be whole numbers")
    limits = np.iinfo(dtype)
    lowest, highest = int(array.min()), int(array.max())
    if lowest < limits.min or highest > limits.max:
        wrong = lowest if lowest < limits.min else highest
        raise bad_request(
            f"input {name!r} is {_NAMES[dtype]} and has the value {wrong}; allowed: {limits.min} to {limits.max}"
        )
    return array.astype(dtype)


def _is_whole(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


def _ragged(name: str) -> Exception:
    return bad_request(f"input {name!r} has lists of different lengths; data must be flat, or nested as its shape is")


def _no_numbers(name: str) -> Exception:
    return bad_request(f"input {name!r} must have numbers only: no text, no null and no objects")


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def to_json(array: Array) -> Any:
    """Return what orjson writes for an array's values, flat. Text that isn't UTF-8 has replacement characters."""
    if array.dtype.kind in "USO":
        return [_text(value) for value in array.ravel().tolist()]
    return np.ascontiguousarray(array).reshape(-1)


def _text(value: Any) -> str:
    raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "replace")


# -- binary ----------------------------------------------------------------------------------------


def from_binary(name: str, data: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Return the array of an input's bytes. Raise RequestRefused if they aren't as many as the shape needs."""
    count = prod(shape)
    if dtype.kind == "O":
        return _binary_texts(name, data, count).reshape(shape)
    if len(data) != count * dtype.itemsize:
        raise bad_request(
            f"input {name!r} has {len(data)} bytes, but {_NAMES[dtype]} of the shape {list(shape)} has "
            f"{count * dtype.itemsize}"
        )
    if dtype.kind == "b":  # no other bytes than 0 and 1 may be a bool
        return np.not_equal(np.frombuffer(data, np.uint8), 0).reshape(shape)
    array: Array = np.frombuffer(data, dtype)
    return (array if array.flags.aligned else array.copy()).reshape(shape)


def _binary_texts(name: str, data: memoryview, count: int) -> Array:
    """Return the texts, each behind its length in four bytes."""
    if count * _LENGTH.size > len(data):  # checked first, so that no array is made for what can't be there
        raise bad_request(f"input {name!r} has {len(data)} bytes, which are too few for {count} texts")
    array: Array = np.empty(count, object)
    raw, at = bytes(data), 0
    for number in range(count):
        if at + _LENGTH.size > len(raw):
            raise bad_request(f"input {name!r} ends within text {number} of {count}")
        end = at + _LENGTH.size + _LENGTH.unpack_from(raw, at)[0]
        if end > len(raw):
            raise bad_request(f"input {name!r} ends within text {number} of {count}")
        array[number] = raw[at + _LENGTH.size : end].decode("utf-8", "surrogateescape")
        at = end
    if at != len(raw):
        raise bad_request(f"input {name!r} has {len(raw) - at} bytes behind its {count} texts")
    return array


def to_binary(array: Array) -> Buffer:
    """Return an array's bytes, as the binary extension has them: those of a large array as they are, uncopied."""
    if array.dtype.kind in "USO":
        parts: list[bytes] = []
        for value in array.ravel().tolist():
            raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
            parts += (_LENGTH.pack(len(raw)), raw)
        return b"".join(parts)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return array.tobytes() if array.nbytes < LARGE else np.ascontiguousarray(array).data.cast("B")
