"""What memory processes take, by the kernel's count. Linux only."""

from __future__ import annotations

import os
import re
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SHARE = re.compile(rb"^Pss: +(\d+) kB$", re.MULTILINE)
_PEAK = re.compile(rb"^VmPeak:\s+(\d+) kB$", re.MULTILINE)


def private_bytes(pid: int) -> int:
    """
    Return the bytes of a process that are in memory and in no file; 0 if it has ended, or where that can't be told.

    What it has in common with the process that it was forked from counts in full. This costs microseconds.
    """
    resident, shared = _pages(pid)
    return (resident - shared) * _PAGE_BYTES


def family_bytes(pid: int) -> int:
    """
    Return the bytes that a process and its descendants take of the memory; 0 if it has ended, or that can't be told.

    Of a page that several processes have, each takes its part, so that the sum over all is what they take together.
    This costs milliseconds for each process: never call it in the event loop.
    """
    return share_bytes(pid) + sum(family_bytes(child) for child in _children(pid))


def share_bytes(pid: int) -> int:
    """Return a process's proportional share; where that may not be read, all that it has in memory."""
    try:
        found = _SHARE.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:  # no right to read it, as for another user's process, or a kernel without it
        found = None
    return int(found[1]) * 1024 if found else _pages(pid)[0] * _PAGE_BYTES


def most_reserved(pid: int) -> int:
    """Return the most bytes that a process has ever reserved, used or not; 0 if it has ended, or that can't be told."""
    try:
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_bytes())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _pages(pid: int) -> tuple[int, int]:
    """Return how many pages of a process are in memory, and how many of them are in files, too."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:  # a host asks, and decoding would cost it memory
            _, resident, shared, *_ = file.read().split()
    except (OSError, ValueError):
        return 0, 0
    return int(resident), int(shared)


def _children(pid: int) -> list[int]:
    try:
        return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
