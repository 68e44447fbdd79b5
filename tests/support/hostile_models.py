"""
Models that do harm when they are loaded: real classifiers with an attribute that acts when it is unpickled.

What a deed tells or leaves behind is in the folder that the trap names.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.local_runs import save_sklearn


class Trap:
    """Does its deed as soon as it is unpickled."""

    def __init__(self, deed: str, folder: Path) -> None:
        self.deed = deed
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return spring, (self.deed, str(self.folder))


def spring(deed: str, folder: str) -> str:
    DEEDS[deed](Path(folder))
    return deed


def _litter(folder: Path) -> None:
    """Leave a temporary file and a process behind, and tell the ids of this process and of that one."""
    descriptor, _ = tempfile.mkstemp()
    os.close(descriptor)
    sleeping = subprocess.Popen(["sleep", "1000"])
    (folder / "writing").write_text(f"{os.getpid()} {sleeping.pid}")
    (folder / "writing").rename(folder / "processes")


def _litter_and_crash(folder: Path) -> None:
    _litter(folder)
    os._exit(3)


def _hang(folder: Path) -> None:
    _litter(folder)
    while True:
        pass


def _hang_without_letting_go(_folder: Path) -> None:
    """Keep the interpreter's lock: a regular expression that backtracks for years."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def _take_memory(_folder: Path) -> None:
    held = []
    while True:
        held.append(b"x" * (16 << 20))


def _chatter(_folder: Path) -> None:
    """Write to every descriptor that is open for writing."""
    print("garbage on standard output")
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"garbage\x80\x00")
        except OSError:
            continue


def _raise(_folder: Path) -> None:
    raise RuntimeError("first line\nsecond line")


DEEDS: dict[str, Callable[[Path], object]] = {
    "litter and crash": _litter_and_crash,
    "hang": _hang,
    "hang without letting go": _hang_without_letting_go,
    "take memory": _take_memory,
    "segfault": lambda folder: ctypes.string_at(0),
    "abort": lambda folder: os.abort(),
    "_exit": lambda folder: os._exit(3),
    "exit": lambda folder: sys.exit(4),
    "chatter": _chatter,
    "raise": _raise,
}


def save_trap(deed: str, folder: Path) -> str:
    """Save a classifier of the iris data that does the deed when it is loaded, and return the path of the model."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    data = load_iris(as_frame=True)
    classifier = LogisticRegression(max_iter=1000).fit(data.data, data.target)
    classifier.note = Trap(deed, folder)
    return str(save_sklearn(folder / "model", classifier, data.data))
