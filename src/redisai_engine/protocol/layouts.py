"""
The layout of a request, to read others of the same layout in one step.

A client sends mostly requests that differ in content but not in length: the same prediction with other numbers. Where
the arguments stand is then known beforehand, and `struct` takes them out together with what must stand between
them. A layout reads a request right or not at all.
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


def layout_of(arguments: Sequence[bytes]) -> Layout | None:
    """Gives the layout of this request; None where none is kept because it has too many arguments."""
    return _layout(tuple(map(len, arguments))) if len(arguments) <= MAX_LAYOUT_ARGUMENTS else None


@lru_cache(maxsize=512)  # shared: clients of one application send the same requests
def _layout(lengths: tuple[int, ...]) -> Layout:
    return Layout(lengths)
