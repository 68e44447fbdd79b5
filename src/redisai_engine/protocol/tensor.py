"""
A tensor in RedisAI's sense: a dtype, a shape and a little-endian blob in row-major order.

The elements of a STRING tensor follow each other in the blob, each terminated by a zero byte. Nothing is copied unless
it must be: `Tensor.array()` of a numeric tensor is a read-only view of the blob.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType

Buffer = bytes | bytearray | memoryview

#: NumPy 1 allows no more; NumPy 2 allows 64. RedisAI has no limit and crashes somewhere above.
MAX_DIMENSIONS = 32

#: Far more than any tensor has, and far less than NumPy can count, whatever the size of an element.
_MAX_ELEMENTS = 2**40


class UnsupportedDType(ValueError):
    """An array has an element type that RedisAI's tensors don't have."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        allowed = ", ".join(d.name for d in dtypes.DTYPES)
        super().__init__(f"RedisAI's tensors can't hold elements of type {np.dtype(dtype)}; the types are {allowed}")


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor. `blob` holds prod(shape) elements; the shape of a scalar is ()."""

    dtype: DType
    shape: tuple[int, ...]
    blob: Buffer

    def array(self) -> npt.NDArray[Any]:
        """Return the elements as an array of `shape`: a view for numbers, an object array of str for STRING."""
        if self.dtype.is_string:
            return string_array(self.blob, self.shape)
        return np.frombuffer(self.blob, self.dtype.numpy).reshape(self.shape)

    @classmethod
    def from_array(cls, array: npt.NDArray[Any]) -> Tensor:
        """
        Build a tensor from an array whose dtype RedisAI has. Text becomes STRING.

        Raise UnsupportedDType for any other dtype, and ValueError for text that contains a zero byte.
        """
        dtype = dtypes.by_numpy(array.dtype)
        if dtype is None:
            raise UnsupportedDType(array.dtype)
        if dtype.is_string:
            return cls(dtype, array.shape, string_blob(array))
        return cls(dtype, array.shape, array.astype(dtype.numpy, copy=False).tobytes())


def element_count(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a tensor of `shape`. A scalar has one."""
    return prod(shape)


def is_shape(shape: Sequence[int]) -> bool:
    """
    Return whether a tensor can have this shape, for shapes that were not made here.

    NumPy refuses lengths whose product is too large even where another length is zero.
    """
    if len(shape) > MAX_DIMENSIONS or any(length < 0 for length in shape):
        return False
    return prod(max(length, 1) for length in shape) <= _MAX_ELEMENTS


def holds_texts(data: bytes, count: int, start: int = 0) -> bool:
    """Return whether the bytes from `start` on are `count` elements of text, each closed by a zero byte."""
    return data.count(0, start) == count and (len(data) <= start or data.endswith(b"\0"))


def string_array(blob: Buffer, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Split a STRING blob into an object array of str. Bytes that are not UTF-8 survive as surrogates."""
    elements = bytes(blob).decode("utf-8", "surrogateescape").split("\0")[:-1]
    array: npt.NDArray[Any] = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)


def string_blob(array: npt.NDArray[Any]) -> bytes:
    """Join text into a blob, each element terminated by a zero byte. Raise ValueError for an element that has one."""
    encoded = [_encode(element) + b"\0" for element in array.ravel().tolist()]
    return b"".join(encoded)


def _encode(element: object) -> bytes:
    raw = element if isinstance(element, bytes) else str(element).encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise ValueError(f"the text {element!r} has a zero byte inside, which a STRING tensor can't hold")
    return raw
