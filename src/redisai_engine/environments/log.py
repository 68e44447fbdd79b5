"""
The log of one build: a file beside the environment, and lines for whoever waits.

Invariant: the file and the number of lines told are bounded, whatever is built.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TextIO

_MOST_CHARACTERS = 2**20
_MOST_TOLD = 300


class BuildLog:
    """`told` takes a line. A file that can't be written is done without."""

    def __init__(self, path: Path, told: Callable[[str], None]) -> None:
        self._path = path
        self._pass_on = told
        self._written = 0
        self._count = 0
        self._file: TextIO | None = None

    def __enter__(self) -> BuildLog:
        with contextlib.suppress(OSError):
            self._file = self._path.open("w", encoding="utf-8")
        self._write(time.strftime("%Y-%m-%d %H:%M:%S %z"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._write("complete" if error is None else str(error))
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def told(self, line: str) -> None:
        self._write(line)
        self._count += 1
        if self._count <= _MOST_TOLD:
            self._pass_on(line)

    def _write(self, line: str) -> None:
        self._written += len(line) + 1
        if self._file is not None and self._written <= _MOST_CHARACTERS:
            with contextlib.suppress(OSError):
                self._file.write(f"{line}\n")
                self._file.flush()
