"""
Byte layouts of requests, used to read further requests of the same form in one step.

Theory of operation. Most requests of a client differ in content but not in length: the same prediction with other
numbers. The offsets of the arguments are then known in advance. A layout knows the lengths: one `struct` call unpacks
the arguments and the bytes between them, which are compared with what must be there. A template also knows the content
of all but a few arguments, so it only compares slices.

Invariant: both read a request correctly or not at all. A request of another form never matches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct

MAX_LAYOUT_ARGUMENTS = 64  # bounds the memory of a cached layout; requests with more arguments are read another way


class Layout:
    """The byte layout of a request whose arguments have these lengths."""

    __slots__ = ("_separators", "_unpack", "size")

    def __init__(self, lengths: Sequence[int]) -> None:
        headers = [b"$%d\r\n" % length for length in lengths]
        separators = [b"*%d\r\n%b" % (len(lengths), headers[0]), *(b"\r\n" + header for header in headers[1:]), b"\r\n"]
        # Separators and arguments alternate, so each are every other field of the unpacked tuple.
        fields = [f"{len(separators[0])}s"]
        for length, separator in zip(lengths, separators[1:], strict=True):
            fields += (f"{length}s", f"{len(separator)}s")
        whole = Struct("".join(fields))
        self.size = whole.size
        self._unpack = whole.unpack_from
        self._separators = tuple(separators)

    def read(self, data: bytes, start: int) -> list[bytes] | None:
        """Read the request at `start`, where at least `size` bytes must follow. Return None if it doesn't match."""
        fields = self._unpack(data, start)
        return list(fields[1::2]) if fields[::2] == self._separators else None


class Template:
    """
    The bytes of a request that may differ from `arguments` only in the content of those at `places`.

    `lengths` are those of the arguments at the places; without it, `arguments` has them.
    """

    __slots__ = ("_fixed", "_holes", "_only", "size")

    def __init__(
        self, arguments: Sequence[bytes], places: Sequence[int], lengths: Mapping[int, int] | None = None
    ) -> None:
        self._fixed: list[tuple[int, bytes]] = []
        holes: dict[int, tuple[int, int]] = {}
        # `text` collects the fixed bytes since the last hole; `start` is their offset in the request.
        start, text = 0, b"*%d\r\n" % len(arguments)
        for place, argument in enumerate(arguments):
            length = lengths[place] if lengths is not None and place in lengths else len(argument)
            text += b"$%d\r\n" % length
            if place in places:
                self._fixed.append((start, text))
                end = start + len(text) + length
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
        """Return the arguments at the template's places, in the given order; None if the request doesn't match."""
        for offset, text in self._fixed:
            if not data.startswith(text, start + offset):
                return None
        if self._only is not None:  # the usual case; a comprehension would cost as much as all the rest
            low, high = self._only
            return [data[start + low : start + high]]
        return [data[start + low : start + high] for low, high in self._holes]


def layout_of(arguments: Sequence[bytes]) -> Layout | None:
    """Return the layout of a request; None if it has more than `MAX_LAYOUT_ARGUMENTS` arguments."""
    return _layout(tuple(map(len, arguments))) if len(arguments) <= MAX_LAYOUT_ARGUMENTS else None


@lru_cache(maxsize=512)  # shared by all connections: clients of one application send the same requests
def _layout(lengths: tuple[int, ...]) -> Layout:
    return Layout(lengths)
