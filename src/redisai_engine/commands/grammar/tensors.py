"""
The tensor arguments of AI.TENSORSET, `type [dim ...] [BLOB data | VALUES value ...]`, and the formats of AI.TENSORGET.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from redisai_engine.commands.grammar.words import double, integer
from redisai_engine.errors import CommandError
from redisai_engine.protocol import dtypes, texts
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import MAX_DIMENSIONS, Buffer, Tensor, element_count, holds_texts

META_AND_BLOB = frozenset((b"META", b"BLOB"))
_FORMATS = (b"META", b"BLOB", b"VALUES")
#: Redis' limit for a string, less room for the header of a tensor. RedisAI crashes on larger shapes.
MAX_TENSOR_BYTES = 512 * 1024 * 1024 - 512
_SHARED_ZEROS = 64 * 1024
_CHUNK = 16 * 1024  # numbers
_STRIPPED = 64 * 1024  # bytes; beyond, comparing all at once takes less time than stripping one after another


class TensorWords:
    """A tensor, and the position of its blob among the words if it came as a blob."""

    __slots__ = ("blob_at", "tensor")

    def __init__(self, tensor: Tensor, blob_at: int | None = None) -> None:
        self.tensor = tensor
        self.blob_at = blob_at


def parse_tensor(arguments: Sequence[bytes]) -> TensorWords:
    """Read a tensor; without BLOB or VALUES it is all zeros. Raise CommandError with RedisAI's text."""
    dtype = dtypes.by_wire_name(arguments[0])
    if dtype is None:
        raise CommandError(texts.BAD_DTYPE)
    shape: list[int] = []
    size = max(dtype.size, 1)  # bytes; for strings a lower bound, since each ends with a zero byte
    for position, word in enumerate(arguments[1:], 2):
        keyword = word.upper()
        if keyword == b"BLOB":
            return TensorWords(_from_blob(dtype, tuple(shape), arguments[position:]), position)
        if keyword == b"VALUES":
            return TensorWords(_from_values(dtype, tuple(shape), arguments[position:]))
        dimension = integer(word)
        if dimension is None or dimension <= 0:
            raise CommandError(texts.BAD_SHAPE)
        shape.append(dimension)
        if len(shape) > MAX_DIMENSIONS:
            raise CommandError(texts.TOO_MANY_DIMENSIONS)
        size *= dimension
        if size > MAX_TENSOR_BYTES:
            raise CommandError(texts.BAD_SHAPE)
    return TensorWords(Tensor(dtype, tuple(shape), _zeros(size)))


def _zeros(size: int) -> Buffer:
    """Return zero bytes. All large ones are parts of the same, of which nothing is in memory until it is written."""
    return bytes(size) if size < _SHARED_ZEROS else memoryview(_all_zeros())[:size]


@lru_cache(maxsize=1)
def _all_zeros() -> bytes:
    return bytes(MAX_TENSOR_BYTES)


def _from_blob(dtype: DType, shape: tuple[int, ...], rest: Sequence[bytes]) -> Tensor:
    if len(rest) != 1:
        raise CommandError(texts.BAD_BLOB_COUNT)
    blob = rest[0]
    if dtype.is_string:
        if not holds_texts(blob, element_count(shape)):
            raise CommandError(texts.BAD_STRING_COUNT)
    elif len(blob) != dtype.size * element_count(shape):
        raise CommandError(texts.BAD_BLOB_SIZE)
    elif dtype is dtypes.BOOL and not _is_bool(blob):
        raise CommandError(texts.BAD_BOOL)
    return Tensor(dtype, shape, blob)


def _is_bool(blob: bytes) -> bool:
    """Return whether all bytes are 0 or 1. RedisAI leaves the last one unchecked."""
    if len(blob) < _STRIPPED:
        return not blob[:-1].strip(b"\0\1")
    return bool(np.frombuffer(blob, np.uint8, len(blob) - 1).max() <= 1)


def _from_values(dtype: DType, shape: tuple[int, ...], values: Sequence[bytes]) -> Tensor:
    if len(values) != element_count(shape):
        raise CommandError(texts.BAD_VALUE_COUNT)
    if dtype.is_string:
        return Tensor(dtype, shape, b"".join(map(_terminated, values)))
    if len(values) <= _CHUNK:
        return Tensor(dtype, shape, _numbers(dtype, values))
    chunks = []
    for start in range(0, len(values), _CHUNK):
        chunks.append(_numbers(dtype, values[start : start + _CHUNK]))
        time.sleep(0)  # in a thread; compiled, it doesn't give up the interpreter's lock by itself
    return Tensor(dtype, shape, b"".join(chunks))


def _numbers(dtype: DType, values: Sequence[bytes]) -> bytes:
    """Read some of a tensor's numbers. All at once would keep other threads from running for long."""
    numbers = [double(value) for value in values] if dtype.is_float else [integer(value) for value in values]
    if None in numbers or not (dtype.is_float or _in_range(dtype, numbers)):
        raise CommandError(texts.BAD_VALUE)
    with np.errstate(over="ignore"):  # a value too large for FLOAT becomes infinite, as in RedisAI
        array = np.array(numbers, np.float64 if dtype.is_float else np.int64).astype(dtype.numpy)
    return array.tobytes()


def _in_range(dtype: DType, numbers: Sequence[float | None]) -> bool:
    """Return whether the dtype can hold all numbers. RedisAI accepts no negative integers as text, for any dtype."""
    largest = 1 if dtype is dtypes.BOOL else np.iinfo(dtype.numpy).max
    return all(number is not None and 0 <= number <= largest for number in numbers)


def _terminated(value: bytes) -> bytes:
    """
    Return a value with one final zero byte, which it may already have.

    Raise CommandError for any other zero byte, and for an empty value, as RedisAI does.
    """
    text = value.removesuffix(b"\0")
    if not value or b"\0" in text:
        raise CommandError(texts.ZERO_BYTE)
    return text + b"\0"


def parse_format(words: Sequence[bytes]) -> frozenset[bytes]:
    """
    Read `[META] [BLOB | VALUES]` in any order; nothing means META and BLOB.

    Raise CommandError for any other word, and for BLOB together with VALUES.
    """
    chosen: set[bytes] = set()
    for word in words:
        keyword = word.upper()
        if keyword not in _FORMATS:
            raise CommandError(texts.BAD_FORMAT)
        chosen.add(keyword)
        if b"BLOB" in chosen and b"VALUES" in chosen:
            raise CommandError(texts.BLOB_AND_VALUES)
    return frozenset(chosen) if chosen else META_AND_BLOB
