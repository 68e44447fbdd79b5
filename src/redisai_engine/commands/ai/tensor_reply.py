"""
The replies of AI.TENSORGET: a tensor's dtype and shape, and its elements as bytes or as values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from redisai_engine.backends.base import Array
from redisai_engine.commands.grammar.tensors import META_AND_BLOB
from redisai_engine.protocol import dtypes, replies
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import Buffer, Tensor, element_count

LARGE = 64 * 1024  # bytes; from this size on, one more piece to write costs less than a copy


def tensor_reply(tensor: Tensor, form: frozenset[bytes], protocol: int) -> bytes:
    """Encode a tensor in the requested format."""
    if form == META_AND_BLOB:
        return _meta_before_blob(tensor.dtype, tensor.shape) + replies.bulk(tensor.blob)
    if b"BLOB" in form:
        return replies.bulk(tensor.blob)
    meta = meta_reply(tensor.dtype, tensor.shape) if b"META" in form else []
    if b"VALUES" not in form:
        return replies.array(meta)
    values = replies.array(_values(tensor, protocol))
    return replies.array([*meta, replies.text("values"), values]) if meta else values


def add_array(pieces: list[Buffer], array: Array) -> None:
    """Append a model's output, encoded as META and BLOB, to a reply's pieces. A large one isn't copied."""
    head = _head(array.dtype, array.shape)
    if head is None:
        pieces.append(tensor_reply(Tensor.from_array(array), META_AND_BLOB, 2))
    else:
        pieces += (head, array.tobytes() if array.nbytes < LARGE else _view(array), b"\r\n")


def meta_reply(dtype: DType, shape: tuple[int, ...]) -> list[bytes]:
    """Encode dtype and shape, each preceded by its name."""
    dimensions = replies.array([replies.integer(dimension) for dimension in shape])
    return [replies.text("dtype"), replies.text(dtype.name), replies.text("shape"), dimensions]


def _view(array: Array) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


@lru_cache(maxsize=4096)
def _head(numpy: np.dtype[Any], shape: tuple[int, ...]) -> bytes | None:
    """Encode the reply up to the blob's bytes; None for strings, whose size doesn't follow from the shape."""
    dtype = dtypes.by_numpy(numpy)
    assert dtype is not None  # backends return only what tensors can hold
    if dtype.is_string:
        return None
    return b"%b$%d\r\n" % (_meta_before_blob(dtype, shape), dtype.size * element_count(shape))


@lru_cache(maxsize=4096)
def _meta_before_blob(dtype: DType, shape: tuple[int, ...]) -> bytes:
    """Encode the reply up to the blob. Cached, because most replies repeat it."""
    return b"*6\r\n" + b"".join([*meta_reply(dtype, shape), replies.text("blob")])


def _values(tensor: Tensor, protocol: int) -> list[bytes]:
    if tensor.dtype.is_string:
        return [replies.bulk(element) for element in bytes(tensor.blob).split(b"\0")[:-1]]
    if tensor.dtype.is_float:
        return [replies.double(value, protocol) for value in tensor.array().ravel().tolist()]
    numbers = np.frombuffer(tensor.blob, "u1") if tensor.dtype is dtypes.BOOL else tensor.array().ravel()
    return [replies.integer(value) for value in numbers.tolist()]
