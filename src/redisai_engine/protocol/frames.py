"""
Framing of Redis' replies: where each reply ends in the bytes from Redis; and decoding of single replies. No I/O.

Theory of operation. RESP consists of items: a line (`+OK`, `:1`), a line followed by a number of bytes (`$3 / abc`), or
a line that announces further items (`*2`). One number decides whether an item completes a reply: `_open`, the count of
items that the reply being read still lacks. It starts at 1; each item subtracts 1, an aggregate adds the number of
items that it announces, and at 0 the reply is complete. So nesting needs no stack, nothing is decoded, and the bytes of
a large bulk are skipped without being examined: a reply of any size passes through chunk by chunk.

An attribute (`|1`) is not an item but precedes one: it adds its content and subtracts nothing.

Invariant: between two calls of `scan`, the scanner holds at most the start of one line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from redisai_engine.protocol.errors import ProtocolError

PUSH: Final = ord(">")
ERRORS = frozenset(b"-!")

_LINES = frozenset(b"+-:_,#(")  # the line is the whole item
_BULK: Final = ord("$")  # the line states a length; that many bytes and a line break follow
_SIZED = frozenset(b"=!")  # framed like a bulk
_ITEMS_PER_ENTRY = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}  # items per announced entry
_ATTRIBUTE: Final = ord("|")

# Levels of a reply that is decoded. A client's Lua script may return tables in tables, without end for the stack.
_MAX_NESTING = 256


# A complete reply: its type (the first byte, not that of an attribute before it) and the offset of its end. A plain
# tuple, because creating a NamedTuple would cost as much as finding the reply.
Frame = tuple[int, int]


class FrameScanner:
    """The scanner of one connection to Redis. `scan` takes the connection's chunks, in order."""

    __slots__ = ("_held", "_kind", "_open", "_skip")

    def __init__(self) -> None:
        self._open = 1  # items that the reply being read still lacks
        self._kind = 0  # type of the reply being read; 0: not started
        self._skip = 0  # bytes of a bulk, line break included, that later chunks will bring
        self._held = b""  # the start of a line whose end a later chunk will bring

    @property
    def at_boundary(self) -> bool:
        """Whether the bytes scanned so far end with a complete reply."""
        return not (self._kind or self._held)

    @property
    def in_push(self) -> bool:
        """Whether the bytes scanned so far end inside a push."""
        return self._kind == PUSH

    def scan(self, data: bytes) -> list[Frame]:
        """
        Return type and end of each reply that ends in this chunk. Ends are offsets from the start of the chunk.

        Raise ProtocolError for bytes that are not RESP.
        """
        frames: list[Frame] = []
        shift = len(self._held)
        if shift:
            data = self._held + data
            self._held = b""
        try:
            self._scan(data, frames, shift)
        except (ValueError, KeyError):
            raise ProtocolError(f"Protocol error: Redis sent bytes that are not a reply: {data[:40]!r}") from None
        return frames

    def _scan(self, data: bytes, frames: list[Frame], shift: int) -> None:
        # This loop runs for every item of every reply: state is in locals, which are faster than attributes.
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


_SHORT: Final = 5  # bytes: three digits and a line break


class _BulkSizes(dict[bytes, int]):
    """The bytes that follow a bulk's header, by the header's number. Those of short bulks are kept, once computed."""

    def __missing__(self, number: bytes) -> int:
        length = int(number)
        size = length + 2 if length >= 0 else 0
        if len(number) <= _SHORT:
            self[number] = size
        return size


_bulk_size = _BulkSizes().__getitem__


@dataclass(frozen=True, slots=True)
class ReplyError:
    """An error reply of Redis. `text` is the whole error, such as "WRONGTYPE Operation against ..."."""

    text: str


# A simple string is bytes, like a bulk. A map is a flat list (key, value, key, value ...), and every form of null is
# None, so that RESP2 and RESP3 look the same.
Value = bytes | int | float | bool | None | ReplyError | list["Value"]


def elements(reply: bytes) -> list[bytes]:
    """
    Cut an array, set, push or map into its encoded elements. A map yields key, value, key, value ...

    A null array has none. Raise ProtocolError for a reply of another type.
    """
    start = reply.index(b"\n") + 1
    if reply[0] not in _ITEMS_PER_ENTRY:
        raise ProtocolError(f"Protocol error: expected an array, got {reply[:40]!r}")
    ends = [start, *(start + end for _, end in FrameScanner().scan(reply[start:]))]
    return [reply[first:end] for first, end in pairwise(ends)]


def decode(reply: bytes) -> Value:
    """Decode one complete reply without attributes. Raise ProtocolError for one that is nested too deeply."""
    return _decode(reply, 0, _MAX_NESTING)[0]


def _decode(reply: bytes, start: int, levels: int) -> tuple[Value, int]:
    """Decode the item at `start`, which may have so many levels. Return its value and the offset after it."""
    end = reply.index(b"\n", start) + 1
    kind = reply[start : start + 1]
    line = reply[start + 1 : end].rstrip(b"\r\n")  # the same number as for the scanner, whatever ends the line
    if kind in b"$=!":
        length = int(line)
        if length < 0:
            return None, end
        return _bulk(kind, reply[end : end + length]), end + length + 2
    if kind in b"*~>%|":
        if not levels:
            raise ProtocolError(f"Protocol error: Redis sent a reply that is nested too deeply: {reply[:40]!r}")
        return _decode_aggregate(reply, end, _announced(kind[0], line) + 1, levels - 1, null=line == b"-1")
    return _LINE_VALUES[kind](line), end


def _decode_aggregate(reply: bytes, position: int, count: int, levels: int, *, null: bool) -> tuple[Value, int]:
    if null:
        return None, position
    values: list[Value] = []
    for _ in range(count):
        value, position = _decode(reply, position, levels)
        values.append(value)
    return values, position


def _bulk(kind: bytes, content: bytes) -> Value:
    if kind == b"=":
        return content[4:]  # a verbatim string starts with its format, such as "txt:"
    return _error(content) if kind == b"!" else content


def _error(content: bytes) -> ReplyError:
    return ReplyError(content.decode("utf-8", "surrogateescape"))


def _announced(item: int, count: bytes) -> int:
    """Return how many more items a reply lacks after the header of this aggregate."""
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
