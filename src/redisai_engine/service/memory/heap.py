"""
What a loaded model takes of this process's memory, measured.

Frameworks tell no sizes, and the process's resident size hardly grows while freed memory is used again. The C library's
own count of allocated bytes is exact, but includes whatever other threads allocate meanwhile. So a measurement counts
only within bounds that follow from the blob's size.

Measured with ONNX Runtime 1.2x: 1.0 times the blob for weights, up to 9 times for forests, 160 KB for a tiny model.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_LEAST = 128 * 1024  # bytes
_MOST_TIMES = 16
_MOST_MORE = 4 * 2**20  # bytes


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc's malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _counter() -> Callable[[], int]:
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:  # a C library other than glibc, or one older than 2.33
        return lambda: 0
    mallinfo.restype = _MallInfo

    def allocated() -> int:
        info = mallinfo()
        return int(info.uordblks + info.hblkhd)

    return allocated


#: Return the bytes that this process has allocated; always 0 where that can't be told.
allocated_bytes: Callable[[], int] = _counter()


def model_bytes(blob_size: int, grown: int) -> int:
    """Return what to count for a model, by the size of its blob and what was allocated while it was loaded."""
    return min(max(grown, blob_size, _LEAST), _MOST_TIMES * blob_size + _MOST_MORE)
