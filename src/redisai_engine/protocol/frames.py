"""
Finds where each reply ends in the bytes that come from Redis, and takes single replies apart. Does no I/O.

Theory of operation. RESP is made of items: a line (`+OK`, `:1`), a line and so many bytes behind it (`$3 / abc`), or
a line that announces further items (`*2`). Whether an item closes a reply needs one number, `_open`: how many items
the reply that is being read still lacks. A reply starts with 1; an item takes 1 away and an aggregate adds what it
announces; at 0 the reply is over. So nesting needs no stack, nothing is decoded, and bytes of a large bulk are
counted, not looked at: a reply of any size passes through chunk by chunk.

An attribute (`|1`) is no item but stands before one: it adds its content and takes nothing away.

Invariant of the scanner: between two calls of `scan` it holds at most the beginning of one line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from redisai_engine.protocol.errors import ProtocolError

PUSH = ord(">")
ERRORS = frozenset(b"-!")

_LINES = frozenset(b"+-:_,#(")  # the item is the line
_BULK = ord("$")  # so many bytes and a line break follow
_SIZED = frozenset(b"=!")  # as a bulk
_ITEMS_PER_ENTRY = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}  # so many items follow
_ATTRIBUTE = ord("|")


# A reply that is complete: its type (its first byte; not the attribute's before it) and where it ends. A plain tuple,
# because making a NamedTuple would cost as much as finding the reply.
Frame = tuple[int, int]


class FrameScanner:
    """Takes the chunks of one connection from Redis with `scan`, in order."""

    __slots__ = ("_held", "_kind", "_open", "_skip")

    def __init__(self) -> None:
        self._open = 1  # items that the reply being read still lacks
        self._kind = 0  # type of the reply being read; 0: it has not begun
        self._skip = 0  # bytes of a bulk, with its line break, that are in chunks to come
        self._held = b""  # the beginning of a line whose end is in a chunk to come

    @property
    def at_boundary(self) -> bool:
        """Whether the bytes so far end with a complete reply."""
        return not (self._kind or self._held)

    def scan(self, data: bytes) -> list[Frame]:
        """
        Gives type and end of each reply that ends in this chunk; ends count from the beginning of the chunk.

        Raises ProtocolError for bytes that no Redis sends.
        """
        frames: list[Frame] = []
        shift = len(self._held)
        if shift:
            data = self._held + data
            self._held = b""
        try:
            self._scan(data, frames, shift)
        except (ValueError, KeyError):
            raise ProtocolError(f"Protocol error: Redis sent something that is no reply: {data[:40]!r}") from None
        return frames

    def _scan(self, data: bytes, frames: list[Frame], shift: int) -> None:
        position = self._skip
        size = len(data)
        lacking = self._open
        kind = self._kind
        find = data.find
        append = frames.append
        while position <= size:
            if not lacking:
                append((kind, position - shift))
                lacking = 1
                kind = 0
            if position == size:
                break
            start = position
            position = find(b"\n", start) + 1
            if not position:
                self._held = data[start:]
                break
            item = data[start]
            if not kind or (kind == _ATTRIBUTE and lacking == 1):
                kind = item
            if item == _BULK or item in _SIZED:
                lacking -= 1
                position += _bulk_size(data[start + 1 : position])
            elif item in _LINES:
                lacking -= 1
            else:
                lacking += _announced(item, data[start + 1 : position])
        self._open = lacking
        self._kind = kind
        self._skip = max(position - size, 0)


class _BulkSizes(dict[bytes, int]):
    """Bytes behind the header of a bulk, by the header's number: kept for short bulks, worked out for others."""

    def __missing__(self, number: bytes) -> int:
        length = int(number)
        return length + 2 if length >= 0 else 0


_bulk_size = _BulkSizes((b"%d\r\n" % length, length + 2) for length in range(1024)).__getitem__


@dataclass(frozen=True, slots=True)
class ReplyError:
    """An error that Redis answered; `text` is all of it, such as "WRONGTYPE Operation against ..."."""

    text: str


# A simple string is bytes, as a bulk is. Maps come flat, key and value by turns, and null in each form is None, so that
# RESP2 and RESP3 look the same.
Value = bytes | int | float | bool | None | ReplyError | list["Value"]


def elements(reply: bytes) -> list[bytes]:
    """Cuts an array, set, push or map (key and value by turns) into its elements as they are; a null array has none."""
    start = reply.index(b"\n") + 1
    if reply[0] not in _ITEMS_PER_ENTRY:
        raise ProtocolError(f"Protocol error: expected an array, got {reply[:40]!r}")
    ends = [start, *(start + end for _, end in FrameScanner().scan(reply[start:]))]
    return [reply[first:end] for first, end in pairwise(ends)]


def decode(reply: bytes) -> Value:
    """Decodes one complete reply, without attributes."""
    return _decode(reply, 0)[0]


def _decode(reply: bytes, start: int) -> tuple[Value, int]:
    """Decodes the item at `start`; gives it and the offset behind it."""
    end = reply.index(b"\n", start) + 1
    kind = reply[start : start + 1]
    line = reply[start + 1 : end - 2]
    if kind in b"$=!":
        length = int(line)
        if length < 0:
            return None, end
        return _bulk(kind, reply[end : end + length]), end + length + 2
    if kind in b"*~>%|":
        return _decode_aggregate(reply, end, _announced(kind[0], line) + 1, null=line == b"-1")
    return _LINE_VALUES[kind](line), end


def _decode_aggregate(reply: bytes, position: int, count: int, *, null: bool) -> tuple[Value, int]:
    if null:
        return None, position
    values: list[Value] = []
    for _ in range(count):
        value, position = _decode(reply, position)
        values.append(value)
    return values, position


def _bulk(kind: bytes, content: bytes) -> Value:
    if kind == b"=":
        return content[4:]  # a verbatim string begins with its format, such as "txt:"
    return _error(content) if kind == b"!" else content


def _error(content: bytes) -> ReplyError:
    return ReplyError(content.decode("utf-8", "surrogateescape"))


def _announced(item: int, count: bytes) -> int:
    """How many more items a reply lacks once the header of this aggregate is read."""
    items = max(int(count), 0) * _ITEMS_PER_ENTRY[item]
    return items if item == _ATTRIBUTE else items - 1


_LINE_VALUES: dict[bytes, Callable[[bytes], Value]] = {
    b"+": bytes,
    b"-": _error,
    b":": int,
    b"(": int,
    b",": float,
    b"#": lambda line: line == b"t",
    b"_": lambda line: None,
}
