"""
Stored tensors of numbers in the bytes of Redis' replies and of SET, without a `Tensor` in between.

Headers repeat: an application uses few dtypes and shapes. So what follows from a header is kept with its bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from redisai_engine.commands.ai.tensor_reply import meta_before_blob
from redisai_engine.errors import CommandError
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.tensor import element_count
from redisai_engine.redis import store

TENSOR = b"$8\r\n%b\r\n" % store.TENSOR_MAGIC  # the reply to GETRANGE 0 7 about a tensor
NO_TENSOR_YET = b"$0\r\n\r\n"  # there is no key, or an empty string

_SIZE_AT = 12  # where a header has its own size
_LARGEST_HEADER = 272  # bytes


class StoredHead:
    """What a tensor's header says: its type and shape, the bytes of its blob, and the start of AI.TENSORGET's reply."""

    def __init__(self, header: bytes) -> None:
        """Raise CommandError for bytes that are no header."""
        dtype, shape = store.parse_header(header)
        self.numpy = dtype.numpy
        self.shape = shape
        self.header_size = len(header)
        self.blob_size = -1 if dtype.is_string else dtype.size * element_count(shape)
        self.before_blob = meta_before_blob(dtype, shape) + b"$%d\r\n" % self.blob_size


def head_in(raw: bytes, start: int) -> StoredHead | None:
    """Return the head of the tensor whose string starts at `start` in GET's reply; None for anything else."""
    if not raw.startswith(store.TENSOR_MAGIC, start):
        return None
    size = int.from_bytes(raw[start + _SIZE_AT : start + _SIZE_AT + 4], "little")
    if size > _LARGEST_HEADER:
        return None
    head = _head(raw[start : start + size])
    if head is None or len(raw) != start + size + head.blob_size + 2:
        return None
    return head


def array_in(raw: bytes) -> Any:
    """Return the elements of the tensor in GET's reply; None if it has none of numbers."""
    start = raw.find(b"\n") + 1
    head = head_in(raw, start)
    if head is None:
        return None
    # A copy of the blob is aligned, as the arrays of the ordinary way are.
    return np.ndarray(head.shape, head.numpy, raw[start + head.header_size : -2])


@lru_cache(maxsize=4096)
def _head(header: bytes) -> StoredHead | None:
    try:
        head = StoredHead(header)
    except CommandError:
        return None
    return head if head.blob_size >= 0 else None


@lru_cache(maxsize=4096)
def value_before_blob(numpy: Any, shape: tuple[int, ...]) -> bytes | None:
    """Return the argument of SET up to the blob, for an array of this type and shape; None if it isn't stored as is."""
    dtype = dtypes.by_numpy(numpy)
    if dtype is None or dtype.is_string or dtype.numpy != numpy:
        return None
    header = store.header(dtype.code, shape)
    return b"$%d\r\n%b" % (len(header) + dtype.size * element_count(shape), header)
