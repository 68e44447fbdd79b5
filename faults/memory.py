"""What memory processes take, by the kernel's account."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def proportional(process: psutil.Process) -> float:
    """
    Return the MiB that a process takes, where memory that processes share counts in parts; 0 if it has ended.

    Pages of files don't count, such as code: the system takes them back when it likes, and which part of them is this
    process's changes whenever any other process opens the same file.
    """
    with suppress(OSError):  # it has just ended
        lines = [line.split() for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()]
        return sum(int(words[1]) for words in lines if words[0] in {"Pss_Anon:", "Pss_Shmem:"}) / 1024
    return 0.0


def resident(process: psutil.Process) -> float:
    """Return the MiB of a process that are in memory, shared ones included. This costs next to nothing."""
    return float(process.memory_info().rss / 2**20)


def of_engine(pid: int) -> float:
    """Return the MiB that an engine takes with all processes below it, apart from its redis-server."""
    engine = psutil.Process(pid)
    return sum(
        map(proportional, [engine, *(child for child in engine.children(recursive=True) if not _is_redis(child))])
    )


def _is_redis(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return "redis-server" in process.name() or "valkey-server" in process.name()
    return False
