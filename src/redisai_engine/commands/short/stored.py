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
    """
    What a tensor's header says: its type and shape, and the bytes of its blob.

    What comes before the blob: in an argument of SET, in the reply to AI.TENSORGET BLOB, and in that with META.
    """

    def __init__(self, header: bytes) -> None:
        """Raise CommandError for bytes that are no header."""
        dtype, shape = store.parse_header(header)
        self.numpy = dtype.numpy
        self.shape = shape
        self.header_size = len(header)
        self.blob_size = -1 if dtype.is_string else dtype.size * element_count(shape)
        self.in_argument = b"$%d\r\n%b" % (len(header) + self.blob_size, header)
        self.in_reply = b"$%d\r\n" % self.blob_size
        self.in_whole_reply = meta_before_blob(dtype, shape) + self.in_reply


class StoredTensor:
    """A tensor of numbers."""

    def __init__(self, head: StoredHead, blob: bytes) -> None:
        self.head = head
        self.blob = blob
        self.size = head.header_size + head.blob_size
        self._array: Any = None

    def array(self) -> Any:
        """Return the elements, in memory that can't be written."""
        if self._array is None:
            self._array = np.ndarray(self.head.shape, self.head.numpy, self.blob)
        return self._array

    def reply(self, *, meta: bool) -> bytes:
        head = self.head
        return b"".join((head.in_whole_reply if meta else head.in_reply, self.blob, b"\r\n"))


def head_in(raw: bytes, start: int) -> StoredHead | None:
    """Return the head of the tensor whose string starts at `start` in GET's reply; None for anything else."""
    if not raw.startswith(store.TENSOR_MAGIC, start):
        return None
    size = int.from_bytes(raw[start + _SIZE_AT : start + _SIZE_AT + 4], "little")
    if size > _LARGEST_HEADER:
        return None
    head = head_of(raw[start : start + size])
    if head is None or len(raw) != start + size + head.blob_size + 2:
        return None
    return head


def tensor_in(raw: bytes) -> StoredTensor | None:
    """Return the tensor in GET's reply; None if it has none of numbers."""
    start = raw.find(b"\n") + 1
    head = head_in(raw, start)
    # A copy of the blob is aligned, as the arrays of the ordinary way are.
    return None if head is None else StoredTensor(head, raw[start + head.header_size : -2])


@lru_cache(maxsize=4096)
def head_of(header: bytes) -> StoredHead | None:
    """Return what a header says; None if it is none of a tensor of numbers."""
    try:
        head = StoredHead(header)
    except CommandError:
        return None
    return head if head.blob_size >= 0 else None


@lru_cache(maxsize=4096)
def head_for(numpy: Any, shape: tuple[int, ...]) -> StoredHead | None:
    """Return the head with which an array of this type and shape is stored; None if it isn't stored as is."""
    dtype = dtypes.by_numpy(numpy)
    if dtype is None or dtype.is_string or dtype.numpy != numpy:
        return None
    return head_of(store.header(dtype.code, shape))
