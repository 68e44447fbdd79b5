"""
How much memory processes use, and how much there is: read from Linux's /proc and /sys, unknown elsewhere.

Counted is what can't be given back: memory that a process has written to, shared memory, and swap. Reserved addresses
and mapped files don't count: TensorFlow and PyTorch reserve gigabytes that they never use.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

# The lines of /proc/PID/status that add up to the memory of a process.
_HELD = re.compile(r"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB$", re.MULTILINE)
_FREE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)
# The lines of a control group's memory.stat that count cached files, which Linux drops when memory is short.
_FILES = re.compile(r"^(?:total_)?(?:in)?active_file (\d+)$", re.MULTILINE)

# Where control groups are mounted, and the files with limit and use: version 2, then version 1.
_GROUPS = (
    ("", Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    ("memory", Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def used(pid: int) -> int:
    """Return the bytes that a process and its descendants hold, 0 if unknown."""
    return sum(1024 * sum(map(int, _HELD.findall(_text(Path(f"/proc/{each}/status"))))) for each in _family(pid))


def free() -> int | None:
    """Return the bytes that this process can still get, from the machine and its control groups. None if unknown."""
    found = _FREE.search(_text(Path("/proc/meminfo")))
    known = [] if found is None else [1024 * int(found[1])]
    known += [left for left in map(_left_in, _own_groups()) if left is not None]
    return min(known, default=None)


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for thread in list(Path(f"/proc/{pid}/task").iterdir()):
            for child in _text(thread / "children").split():
                yield from _family(int(child))


def _own_groups() -> Iterator[tuple[Path, str, str]]:
    """Yield the control groups of this process, each with its parents, and the names of their files."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        for controller, root, limit, use in _GROUPS:
            if controller in controllers.split(","):
                group = root / path.lstrip("/")
                for folder in (group, *group.parents):
                    if folder.is_relative_to(root):
                        yield folder, limit, use


def _left_in(group: tuple[Path, str, str]) -> int | None:
    folder, limit, use = group
    allowed, taken = _text(folder / limit).strip(), _text(folder / use).strip()
    if not allowed.isdigit() or not taken.isdigit():  # "max": no limit
        return None
    cached = sum(map(int, _cached(_text(folder / "memory.stat"))))
    return max(0, int(allowed) - max(0, int(taken) - cached))


def _cached(stat: str) -> list[str]:
    # Version 1 has a total for the group and those below it; version 2 has only totals.
    return _FILES.findall("\n".join(line for line in stat.splitlines() if line.startswith("total_")) or stat)


def _text(path: Path) -> str:
    """Return a file's text, "" if it can't be read: the process may have ended."""
    try:
        return path.read_text()
    except OSError:
        return ""
