"""
Gives memory back to the system that models and scripts have left, and clients that didn't take their answers.

Theory of operation. What has left lies in gaps between what has stayed, in the heaps of the threads that loaded it.
glibc gives back only what is free at the top of a heap, if that is much. `malloc_trim` gives back all pages that are
free, apart from the tops of other heaps than the first; one of these is cut when its thread frees a large block, which
is why this is done in the threads that load. It takes about 0.2 ms for each MiB given back, in which it holds the lock
of one heap after the other, and what the next requests use has to be got from the system again, page by page. So it is
done only if something has left, and so seldom that it takes a hundredth of the time at most.

Invariant: some seconds after something has left, memory is given back.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from time import perf_counter

#: So much of what is free at the top of a heap stays there for the next requests (see process/memory.py).
KEPT_BYTES = 64 * 2**20

#: A constant of glibc's malloc.h.
M_TRIM_THRESHOLD = -1

_LEAST_SECONDS = 3.0  # from the end of one time to the next
_TIMES = 100  # what it took, for the same
_LARGE_BYTES = 2**17  # glibc looks at a heap's top when 64 KiB or more become free in it


class Trimming:
    """When to give back, by calling `give_back` in each of the threads: `look` is called about once a second."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, threads: Sequence[Executor], give_back: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._give_back = give_back
        self._seen = 0  # how much had left at the last look
        self._done = 0  # how much had left when memory was given back
        self._not_before = 0.0

    def look(self, left: int) -> None:
        """Give memory back if it's time. `left` is how many have left so far."""
        settled, self._seen = self._seen, left  # what left since the last look may still be in use
        if settled != self._done and self._loop.time() >= self._not_before:
            self._done = settled
            self._not_before = float("inf")
            self._loop.create_task(self._in_all_threads())

    async def _in_all_threads(self) -> None:
        seconds = [await self._loop.run_in_executor(thread, _timed, self._give_back) for thread in self._threads]
        self._not_before = self._loop.time() + max(_LEAST_SECONDS, _TIMES * sum(seconds))


def _timed(function: Callable[[], object]) -> float:
    begin = perf_counter()
    function()
    return perf_counter() - begin


def _freeing() -> Callable[[], object]:
    libc = ctypes.CDLL(None)  # lets other threads run while its functions are called
    if not hasattr(libc, "malloc_trim"):  # a C library other than glibc
        return lambda: None
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]

    def give_back() -> None:
        libc.malloc_trim(0)
        block = libc.malloc(_LARGE_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, _LARGE_BYTES)
        libc.free(block)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)

    return give_back


#: Give back what is free in all heaps, and at the top of this thread's.
give_back: Callable[[], object] = _freeing()
