"""How many processors this process may use, and the number of worker processes that follows from it."""

from __future__ import annotations

import os
from pathlib import Path

#: Yielding the processor for longer shows that others need it. For how long a process that polls then doesn't.
CONTENDED_SECONDS, REST_SECONDS = 500e-6, 0.1

AUTO = "auto"
MOST_WORKERS = 256

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available() -> int:
    """Return the number of processors that this process may use: no more than its container gets, if it is in one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, granted(_QUOTA, count))


def granted(path: Path, unlimited: int) -> int:
    """Return how many processors' time a control group gets, rounded up, or `unlimited`. `path` is its `cpu.max`."""
    try:
        quota, period = path.read_text().split()
    except (OSError, ValueError):  # not on Linux, or control groups of the first version
        return unlimited
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return unlimited
    return max(1, -(-int(quota) // int(period)))


def worker_count(text: str) -> int:
    """Return how many worker processes a setting asks for. Raise ValueError for anything but a number or "auto"."""
    if text.lower() == AUTO:
        return min(available(), MOST_WORKERS)
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= MOST_WORKERS:
        raise ValueError(f"it must be a whole number from 1 to {MOST_WORKERS}, or {AUTO}: one for each processor")
    return count
