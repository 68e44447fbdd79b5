"""A limit of a running process lowered for a while, and what a process holds that the system may refuse."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.servers import Server

needs_prlimit = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="the limits of another process can't be set on this system"
)

_LESS_THAN_A_STACK = 4 * 2**20


@contextlib.contextmanager
def few_descriptors(server: Server, free: int) -> Iterator[None]:
    """Let the server's process open so many more descriptors, and no others."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (_limit(pid, free), before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def _limit(pid: int, free: int) -> int:
    """Return the limit below which so many numbers are free."""
    taken = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
    unused = (number for number in itertools.count() if number not in taken)
    return next(itertools.islice(unused, free, None))


def held(server: Server) -> tuple[list[str], list[int]]:
    """Return the files that the server's process has open, and all processes below it."""
    return open_files(server.process.pid), processes_below(server.process.pid)


def open_files(pid: int) -> list[str]:
    files = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            files.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return sorted(files)


def processes_below(pid: int) -> list[int]:
    return sorted(child.pid for child in psutil.Process(pid).children(recursive=True))


@contextlib.contextmanager
def no_threads(server: Server) -> Iterator[None]:
    """Leave the server's process too little memory for the stack of another thread, which is 8 MiB."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_DATA)
    taken = int(Path(f"/proc/{pid}/statm").read_text().split()[5]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_DATA, (taken + _LESS_THAN_A_STACK, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_DATA, before)
