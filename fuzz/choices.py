"""
Decisions read from bytes: a fuzzer that changes bytes changes what a target does. Behind the last byte, all are zero.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import ClassVar, TypeVar

from fuzz.limits import Skipped

T = TypeVar("T")

_MOST_REPEATED = 1 << 17  # bytes; enough for quadratic time to show
_STRETCHING = 247  # bytes from here on stretch; few do, because a long input takes as much time as many short ones

INTEGERS = (0, 1, 2, 3, -1, 31, 32, 33, 64, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64)
FLOATS = (0.0, -0.0, 1.0, 0.1, -1.5, 1e300, 5e-324, 2.0**53, float("nan"), float("inf"), float("-inf"))
TEXTS = ("", "a", "y", "x", "0", "1", "inputs", "columns", "data", "\0", "\ud800", "\ue000NaN", "é" * 9, "a" * 300)


class Choices:
    """What a target asks in order to build its input. Of inputs that would become long, one in `long_one_in` does."""

    long_one_in: ClassVar[int] = 1

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def exhausted(self) -> bool:
        return self._position >= len(self._data)

    def take(self, count: int) -> bytes:
        taken = self._data[self._position : self._position + count]
        self._position += count
        return taken.ljust(count, b"\0")

    def byte(self) -> int:
        return self.take(1)[0]

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def one(self, options: Sequence[T]) -> T:
        return options[self.byte() % len(options)]

    def integer(self) -> int:
        return int(self.one(INTEGERS) if self.flag() else struct.unpack("<q", self.take(8))[0])

    def number(self) -> float:
        return float(self.one(FLOATS) if self.flag() else struct.unpack("<d", self.take(8))[0])

    def text(self) -> str:
        return self.one(TEXTS) if self.flag() else self.take(self.byte() % 8).decode("utf-8", "surrogateescape")

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(max(0, len(self._data) - self._position))

    def stretched(self) -> bytes:
        """
        Return all that is left, with a part of it repeated, perhaps very often.

        A reader that needs quadratic time or too much memory shows it only with long inputs, which no fuzzer finds.
        Raise Skipped instead for most of these while exploring: what atheris has seen something new in, it changes
        again and again, and soon all its inputs would be long.
        """
        often, start, length = self.take(3)
        data = self.rest()
        if often < _STRETCHING:
            return data
        if zlib.crc32(self._data) % self.long_one_in:
            raise Skipped
        part = data[start : start + length]
        count = min(1 << 2 * (often - _STRETCHING), _MOST_REPEATED // max(1, len(part)))
        return data[:start] + part * count + data[start + length :]
