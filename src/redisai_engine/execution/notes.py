"""
Notes of what a process loads or runs for the first time: they outlive it, so that after a crash it is known what is to
blame.

Theory of operation. The notes are a small file that is mapped into memory: writing one costs no call of the system, and
the kernel keeps it when the process dies. The parent, or the next process, reads what was still noted at the death.

Invariant: a note is there before the framework gets the blob, and until it has returned.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

LOADING, RUNNING = b"L", b"R"

_SLOTS = 64  # what is loaded or run beyond that isn't noted
_SLOT_BYTES = 72
FILE_BYTES = _SLOTS * _SLOT_BYTES


class Note(NamedTuple):
    """What was being done, LOADING or RUNNING, and the digest of the blob."""

    doing: bytes
    digest: str


class Notes:
    """The notes of one process. `file` is the descriptor of its file; without one they die with the process."""

    def __init__(self, file: int = -1) -> None:
        if file >= 0:
            os.ftruncate(file, FILE_BYTES)
        self._map = mmap.mmap(file, FILE_BYTES)
        self._free = deque(range(_SLOTS))

    @contextmanager
    def noted(self, doing: bytes, digest: str) -> Iterator[None]:
        """Note what is being done as long as the context lasts. In any thread."""
        slot = self._free.pop() if self._free else -1
        if slot >= 0:
            self._write(slot, doing + digest.encode())
        try:
            yield
        finally:
            if slot >= 0:
                self._write(slot, b"")
                self._free.append(slot)

    def read(self) -> list[Note]:
        """Return what is noted now."""
        slots = [self._map[start : start + _SLOT_BYTES].rstrip(b"\0") for start in range(0, FILE_BYTES, _SLOT_BYTES)]
        return [Note(slot[:1], slot[1:].decode("ascii", "replace")) for slot in slots if slot]

    def clear(self) -> None:
        self._map[:] = bytes(FILE_BYTES)

    def close(self) -> None:
        self._map.close()

    def _write(self, slot: int, text: bytes) -> None:
        self._map[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES] = text.ljust(_SLOT_BYTES, b"\0")
