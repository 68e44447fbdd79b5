"""
How much Redis has sent to each worker of an engine, in memory that all of them see.

Theory of operation. Each worker has a line of the processor's cache, so that writing there doesn't hold up the others.
It writes what it has counted before any of its clients can be answered with what has arrived. A worker that is asked by
a client reads all lines then. So it sees at least what that client, or whoever has told it, was answered by any worker:
on all processors, the system calls that carry an answer and a request order what was written before the one and is read
after the other.

Invariant: one process at a time writes a number, all 64 bits in one store. A number only grows, over restarts too.
"""

from __future__ import annotations

import os
from typing import IO, Final

from redisai_engine.folders import new_file

_LINE: Final = 8  # numbers of 8 bytes


def new_tallies(workers: int) -> IO[bytes]:
    """Return a file for the tallies of so many workers: in memory, if the system can, since a disk may be slow."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("redisai-engine-tallies"), "w+b")
    else:
        file = new_file()
    file.write(bytes(workers * _LINE * 8))  # not a hole, for which there might be no room later
    file.flush()
    return file


class Tallies:
    """
    The tallies of all workers, in the file `descriptor`, which isn't needed afterwards.

    `own` are the two numbers of worker `number`, counted from 1: answers to what may have changed keys, and others.
    """

    def __init__(self, descriptor: int, number: int) -> None:
        from mmap import mmap  # an engine that is one process does without

        numbers = memoryview(mmap(descriptor, os.fstat(descriptor).st_size)).cast("Q")
        first = (number - 1) * _LINE
        self.own = numbers[first : first + 2]
        self._of_changes = numbers[0::_LINE]
        self._others = numbers[1::_LINE]

    @property
    def of_changes(self) -> int:
        """The sum of all workers. Since no number ever falls, it is the same only while all of them are."""
        return sum(self._of_changes)

    @property
    def all(self) -> int:
        return sum(self._of_changes) + sum(self._others)
