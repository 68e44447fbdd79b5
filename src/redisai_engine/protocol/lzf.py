"""
LZF, the compression that Redis uses for strings in its dumps; only the way back is needed.

The compressed bytes are a row of pieces. A piece begins with a control byte: below 32 it is followed by that many
bytes and one more, as they are; else its upper three bits (and, when all are set, a further byte) give the length and
its lower five with the next byte the distance of a piece of what has come out so far, to be repeated.
"""

from __future__ import annotations


class LzfError(ValueError):
    """The bytes are not what LZF makes of `length` bytes."""

    def __init__(self, length: int) -> None:
        super().__init__(f"the compressed bytes do not give {length} bytes")


def decompress(data: bytes, length: int) -> bytes:
    """Gives the `length` bytes that `data` was made of. Raises LzfError if it wasn't."""
    output = bytearray()
    position = 0
    try:
        while position < len(data):
            control = data[position]
            position += 1
            if control < 32:
                output += data[position : position + control + 1]
                position += control + 1
                continue
            count = control >> 5
            if count == 7:
                count += data[position]
                position += 1
            start = len(output) - ((control & 31) << 8 | data[position]) - 1
            position += 1
            _repeat(output, start, count + 2)
            if len(output) > length:
                break
    except IndexError:
        raise LzfError(length) from None
    if len(output) != length or position != len(data):
        raise LzfError(length)
    return bytes(output)


def _repeat(output: bytearray, start: int, count: int) -> None:
    """Appends `count` bytes from `start` on, some of which this very call may append."""
    if start < 0:
        raise IndexError
    piece = output[start : start + count]
    output += (piece * (count // len(piece) + 1))[:count]
