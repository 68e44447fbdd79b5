"""
How requests stand in the bytes, to read others of the same kind in one step.

A client sends mostly requests that differ in content but not in length: the same prediction with other numbers. Where
the arguments stand is then known beforehand. A layout knows the lengths, and `struct` takes the arguments out together
with what must stand between them. A template knows all but a few of the arguments too, so it only compares. Both read
a request right or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

MAX_LAYOUT_ARGUMENTS = 64  # bounds what a kept layout costs; requests with more are read in another way


class Layout:
    """How a request with arguments of these lengths stands in the bytes."""

    __slots__ = ("_separators", "_unpack", "size")

    def __init__(self, lengths: Sequence[int]) -> None:
        headers = [b"$%d\r\n" % length for length in lengths]
        separators = [b"*%d\r\n%b" % (len(lengths), headers[0]), *(b"\r\n" + header for header in headers[1:]), b"\r\n"]
        fields = [f"{len(separators[0])}s"]
        for length, separator in zip(lengths, separators[1:], strict=True):
            fields += (f"{length}s", f"{len(separator)}s")
        whole = Struct("".join(fields))
        self.size = whole.size
        self._unpack = whole.unpack_from
        self._separators = tuple(separators)

    def read(self, data: bytes, start: int) -> list[bytes] | None:
        """Reads the request at `start`, where at least `size` bytes are; None: it has another layout."""
        fields = self._unpack(data, start)
        return list(fields[1::2]) if fields[::2] == self._separators else None


class Template:
    """How a request stands in the bytes that differs from `arguments` in the content of those at `places` only."""

    __slots__ = ("_fixed", "_holes", "_only", "size")

    def __init__(self, arguments: Sequence[bytes], places: Sequence[int]) -> None:
        self._fixed: list[tuple[int, bytes]] = []
        holes: dict[int, tuple[int, int]] = {}
        start, text = 0, b"*%d\r\n" % len(arguments)
        for place, argument in enumerate(arguments):
            text += b"$%d\r\n" % len(argument)
            if place in places:
                self._fixed.append((start, text))
                end = start + len(text) + len(argument)
                holes[place] = (start + len(text), end)
                start, text = end, b""
            else:
                text += argument
            text += b"\r\n"
        self._fixed.append((start, text))
        self._holes = [holes[place] for place in places]
        self._only = self._holes[0] if len(places) == 1 else None
        self.size = start + len(text)

    def read(self, data: bytes, start: int) -> list[bytes] | None:
        """Gives what the request at `start` has at the places, in the order they were given; None: it is another."""
        for offset, text in self._fixed:
            if not data.startswith(text, start + offset):
                return None
        if self._only is not None:  # mostly; a comprehension costs as much as all the rest
            low, high = self._only
            return [data[start + low : start + high]]
        return [data[start + low : start + high] for low, high in self._holes]


def layout_of(arguments: Sequence[bytes]) -> Layout | None:
    """Gives the layout of this request; None where none is kept because it has too many arguments."""
    return _layout(tuple(map(len, arguments))) if len(arguments) <= MAX_LAYOUT_ARGUMENTS else None


@lru_cache(maxsize=512)  # shared: clients of one application send the same requests
def _layout(lengths: tuple[int, ...]) -> Layout:
    return Layout(lengths)
