"""
The process's memory: freed memory is kept for the next request, and the garbage collector skips start-up objects.

By default glibc returns the top of the heap to the system as soon as twice the largest block so far is free there. So
every request with a large tensor gets its memory from the system again, page by page, which takes a third of the
engine's time for 600 KB.

Invariant: at most `KEPT_BYTES` of freed memory stay at the top of a heap, until `service/memory/trimming.py` gives it
back. Blocks larger than `_LARGE_BYTES` are returned to the system at once.
"""

from __future__ import annotations

import ctypes
import gc

from redisai_engine.service.memory.trimming import KEPT_BYTES, M_TRIM_THRESHOLD

_LARGE_BYTES = 16 * 2**20

#: A constant of glibc's malloc.h.
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Make glibc keep freed memory. A no-op with C libraries that have no mallopt."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def spare_the_collector() -> None:
    """Exclude all objects that exist now from garbage collection, which would pause the engine for a long time."""
    gc.collect()
    gc.freeze()
