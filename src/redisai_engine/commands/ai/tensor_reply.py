"""
The replies of AI.TENSORGET: a tensor's dtype and shape, and its elements as bytes or as values.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from redisai_engine.backends.base import Array
from redisai_engine.commands.budget import Budget
from redisai_engine.commands.grammar.tensors import META_AND_BLOB
from redisai_engine.protocol import dtypes, replies
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.replies import Reply
from redisai_engine.protocol.tensor import Buffer, Tensor, element_count

MANY = 16 * 1024  # elements; encoding or reading more as text takes too long for the event loop

_LEAST_BYTES = 4  # of a value in a reply, such as ":0" and its line break


def tensor_reply(tensor: Tensor, form: frozenset[bytes], protocol: int, budget: Budget) -> list[Buffer]:
    """
    Encode a tensor in the requested format, in pieces that don't copy a large blob.

    Raise CommandError if that takes more than the budget allows, before it takes it.
    """
    if form == META_AND_BLOB:
        return [meta_before_blob(tensor.dtype, tensor.shape), *_blob(tensor, budget)]
    if b"BLOB" in form:
        return _blob(tensor, budget)
    meta = meta_reply(tensor.dtype, tensor.shape) if b"META" in form else []
    if b"VALUES" not in form:
        return [replies.array(meta)]
    count = element_count(tensor.shape)
    budget.take(_LEAST_BYTES * count)
    budget.used -= _LEAST_BYTES * count  # the chunks take what they really need
    head = b"*6\r\n" + b"".join([*meta, replies.text("values")]) if meta else b""
    pieces: list[Buffer] = [b"%b*%d\r\n" % (head, count)]
    for chunk in _values(tensor, protocol):
        budget.take(len(chunk))
        pieces.append(chunk)
    return pieces


def takes_long(shape: tuple[int, ...], form: frozenset[bytes]) -> bool:
    """Return whether encoding a tensor of this shape would keep the event loop busy for milliseconds."""
    return b"VALUES" in form and element_count(shape) > MANY


def in_few_pieces(pieces: list[Buffer]) -> Reply:
    """Join pieces that are small together."""
    return b"".join(pieces) if sum(map(len, pieces)) < replies.LARGE else pieces


def _blob(tensor: Tensor, budget: Budget) -> list[Buffer]:
    budget.take(len(tensor.blob))
    return [b"$%d\r\n" % len(tensor.blob), tensor.blob, b"\r\n"]


def add_array(pieces: list[Buffer], array: Array) -> None:
    """Append a model's output, encoded as META and BLOB, to a reply's pieces. A large one isn't copied."""
    head = _head(array.dtype, array.shape)
    if head is None:
        text = Tensor.from_array(array)
        pieces += (meta_before_blob(text.dtype, text.shape), replies.bulk(text.blob))
    else:
        pieces += (head, array.tobytes() if array.nbytes < replies.LARGE else _view(array), b"\r\n")


def meta_reply(dtype: DType, shape: tuple[int, ...]) -> list[bytes]:
    """Encode dtype and shape, each preceded by its name."""
    dimensions = replies.array([replies.integer(dimension) for dimension in shape])
    return [replies.text("dtype"), replies.text(dtype.name), replies.text("shape"), dimensions]


def meta_of_array(array: Array) -> list[bytes]:
    """Encode dtype and shape of a model's output."""
    dtype = dtypes.by_numpy(array.dtype)
    assert dtype is not None  # backends return only what tensors can hold
    return meta_reply(dtype, array.shape)


def _view(array: Array) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


@lru_cache(maxsize=4096)
def _head(numpy: np.dtype[Any], shape: tuple[int, ...]) -> bytes | None:
    """Encode the reply up to the blob's bytes; None for strings, whose size doesn't follow from the shape."""
    dtype = dtypes.by_numpy(numpy)
    assert dtype is not None  # backends return only what tensors can hold
    if dtype.is_string:
        return None
    return b"%b$%d\r\n" % (meta_before_blob(dtype, shape), dtype.size * element_count(shape))


@lru_cache(maxsize=4096)
def meta_before_blob(dtype: DType, shape: tuple[int, ...]) -> bytes:
    """Encode the reply up to the blob. Cached, because most replies repeat it."""
    return b"*6\r\n" + b"".join([*meta_reply(dtype, shape), replies.text("blob")])


def _values(tensor: Tensor, protocol: int) -> Iterator[bytes]:
    """
    Yield the encoded values, `MANY` at a time: an object for each would take far more memory than the reply.

    More of them are encoded in a thread. Compiled, it doesn't give up the interpreter's lock by itself.
    """
    if tensor.dtype.is_string:
        for number, texts in enumerate(_texts(bytes(tensor.blob))):
            if number:
                time.sleep(0)
            yield b"".join([replies.bulk(element) for element in texts])
        return
    numbers = np.frombuffer(tensor.blob, "u1" if tensor.dtype is dtypes.BOOL else tensor.dtype.numpy)
    for start in range(0, numbers.size, MANY):
        if start:
            time.sleep(0)
        chunk = numbers[start : start + MANY].tolist()
        if tensor.dtype.is_float:
            yield b"".join([replies.double(value, protocol) for value in chunk])
        else:
            yield b"".join([replies.integer(value) for value in chunk])


def _texts(blob: bytes) -> Iterator[list[bytes]]:
    """Cut a STRING blob into elements, those of about `MANY` bytes at a time."""
    start = 0
    while start < len(blob):
        end = blob.find(b"\0", min(start + MANY, len(blob) - 1)) + 1 or len(blob)
        yield blob[start:end].split(b"\0")[:-1]
        start = end
