"""
The element types of RedisAI's tensors and their NumPy counterparts.

Invariant: the order of `DTYPES` is part of the storage format, because a stored tensor's header holds an index into it.
Only append.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """One element type: RedisAI's name, its number in stored headers, NumPy's dtype, its size in bytes (0: varies)."""

    name: str
    code: int
    numpy: np.dtype[Any]
    size: int

    @property
    def is_float(self) -> bool:
        return self.numpy.kind == "f"

    @property
    def is_string(self) -> bool:
        return self.size == 0

    def __repr__(self) -> str:
        return f"DType({self.name})"


def _dtype(name: str, code: int, numpy: str) -> DType:
    dtype = np.dtype(numpy)
    return DType(name, code, dtype, 0 if dtype.kind == "O" else dtype.itemsize)


FLOAT = _dtype("FLOAT", 0, "<f4")
DOUBLE = _dtype("DOUBLE", 1, "<f8")
INT8 = _dtype("INT8", 2, "i1")
INT16 = _dtype("INT16", 3, "<i2")
INT32 = _dtype("INT32", 4, "<i4")
INT64 = _dtype("INT64", 5, "<i8")
UINT8 = _dtype("UINT8", 6, "u1")
UINT16 = _dtype("UINT16", 7, "<u2")
BOOL = _dtype("BOOL", 8, "?")
STRING = _dtype("STRING", 9, "O")

DTYPES: tuple[DType, ...] = (FLOAT, DOUBLE, INT8, INT16, INT32, INT64, UINT8, UINT16, BOOL, STRING)

_BY_NAME = {dtype.name: dtype for dtype in DTYPES}
_BY_WIRE_NAME = {dtype.name.encode(): dtype for dtype in DTYPES}
_BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES}


def by_name(name: str) -> DType | None:
    """Return the dtype that RedisAI calls `name` (in upper case), or None."""
    return _BY_NAME.get(name)


def by_wire_name(name: bytes) -> DType | None:
    """Return the dtype for a name from the wire, in any letter case, or None."""
    return _BY_WIRE_NAME.get(name) or _BY_WIRE_NAME.get(name.upper())


def by_numpy(dtype: npt.DTypeLike) -> DType | None:
    """Return the dtype that holds NumPy's `dtype` exactly, or None. Text and bytes of any width are STRING."""
    found = np.dtype(dtype)
    if found.kind in "US":
        return STRING
    return _BY_NUMPY.get(found) or _BY_NUMPY.get(found.newbyteorder("<"))
