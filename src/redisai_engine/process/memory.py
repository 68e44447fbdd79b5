"""
How the process's memory is managed: freed memory is kept for the next request, and start-up objects are left alone.

glibc gives the top of the heap back to the system as soon as twice the largest block so far is free there. So every
request with a large tensor takes its memory anew, page by page, which is a third of the engine's time for 600 KB.

Invariant: at most `_KEPT_BYTES` of freed memory stay at the top of the heap; larger blocks than `_LARGE_BYTES` go back
at once.
"""

from __future__ import annotations

import ctypes
import gc

_KEPT_BYTES = 64 * 2**20
_LARGE_BYTES = 16 * 2**20

# The numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Has glibc keep freed memory; other C libraries, which have no mallopt, go on as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def spare_the_collector() -> None:
    """Has Python never look for cycles among what is there from the start: that would stop the engine for long."""
    gc.collect()
    gc.freeze()
