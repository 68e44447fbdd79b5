"""
The limits that hold for every single input of a parser: time, memory, and nothing left behind.

Time is that of the process, so that a busy machine finds nothing. Memory is what the process took from the system
while it read the input. A leak is memory that grows each time the same input is read.
"""

from __future__ import annotations

import contextlib
import gc
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

Check = Callable[[bytes], None]

SECONDS = 2.0  # inputs have a few kilobytes, repeated up to 128
SECONDS_SEEN = 8.0  # where atheris sees each line that runs
MEBIBYTES = 64
_SLOW_SECONDS = 0.02  # of an input that is read twice
_FRAMES = -12  # of a traceback that are kept: the innermost
_ROUNDS = (8, 32, 128, 256, 256)  # repetitions of an input that is searched for a leak; most pass the first


class TooLong(BaseException):
    """An input took more time than any may. No `except Exception` stops it."""


class TooLarge(AssertionError):
    """An input took more memory than any may."""


class Fault(AssertionError):
    """A fault whose kind isn't told by where it was raised. `name` is the same for faults of one kind."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class Skipped(BaseException):
    """An input isn't checked, because others like it have been."""


class Leak(AssertionError):
    """Each time that an input is read, it leaves objects behind."""


def bounded(check: Check, seconds: float = SECONDS) -> Check:
    """Return a check that fails for an input that takes too long or too much memory."""

    def run(data: bytes) -> None:
        before = _peak()
        with _ended_after(seconds):
            check(data)
        taken = (_peak() - before) >> 20
        if taken > MEBIBYTES:
            raise TooLarge(f"an input of {len(data)} bytes took {taken} MiB; at most {MEBIBYTES} are allowed")

    return run


def check_leak(check: Check, data: bytes) -> None:
    """
    Raise Leak if every repetition of an input leaves objects behind. Caches fill only once.

    Inputs that take long aren't repeated: hundreds of repetitions of one would take all the time there is.
    """
    if _repeat(check, data, 2) > _SLOW_SECONDS:
        return
    for repetitions in _ROUNDS:
        before = sys.getallocatedblocks()
        _repeat(check, data, repetitions)
        left = sys.getallocatedblocks() - before
        if left < repetitions:
            return
    raise Leak(f"an input of {len(data)} bytes left {left} objects behind in {repetitions} repetitions")


def _repeat(check: Check, data: bytes, count: int) -> float:
    """Return how long it takes, in seconds of the process, without the collection of garbage that follows."""
    began = time.process_time()
    for _ in range(count):
        check(data)
    seconds = time.process_time() - began
    gc.collect()
    return seconds


def collecting(check: Check, folder: Path) -> Check:
    """Return a check that never fails. It keeps the smallest input of each fault in the folder, and its traceback."""
    sizes: dict[str, int] = {}

    def run(data: bytes) -> None:
        try:
            check(data)
        except Skipped:
            return
        except (Exception, TooLong) as error:
            name = _name(error)
            if len(data) < sizes.get(name, len(data) + 1):
                sizes[name] = len(data)
                (folder / name).write_bytes(data)
                (folder / f"{name}.txt").write_text("".join(traceback.format_exception(error, limit=_FRAMES)))

    return run


def _name(error: BaseException) -> str:
    """Return a file name for the fault: the same for errors of one kind that were raised by the same call."""
    if isinstance(error, Fault):
        return error.name
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((frame for frame in reversed(frames) if "redisai_engine" in frame.filename), frames[-1])
    return f"{type(error).__name__}-{Path(ours.filename).stem}-{ours.name}".replace("<", "").replace(">", "")


def limit_address_space(mebibytes: int) -> None:
    """Let this process reserve only so much more: memory that nothing touches shows in no peak."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def _peak() -> int:
    """
    Return the most bytes that this process has ever had in memory.

    getrusage() would count what the process had that this one was started by.
    """
    told = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert told is not None
    return int(told[1]) << 10


@contextlib.contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    def end(_signal: int, _frame: FrameType | None) -> None:
        raise TooLong(f"an input took more than {seconds:g} s")

    previous = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
