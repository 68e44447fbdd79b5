"""
LZF, the compression that Redis uses for strings in its dumps. Only decompression is needed.

Theory of operation. The compressed bytes are a sequence of pieces, each starting with a control byte. Below 32, the
control byte is followed by that many literal bytes plus one. Otherwise the piece repeats earlier output: the upper
three bits (plus a further byte if all three are set) give its length minus two, and the lower five bits together with
the next byte give the distance back minus one.

Invariant: damaged input raises LzfError, and never expands beyond `length` bytes.
"""

from __future__ import annotations

_LARGEST_RATIO = 88  # three bytes stand for at most 264


class LzfError(ValueError):
    """The bytes don't decompress to exactly `length` bytes."""

    def __init__(self, length: int) -> None:
        super().__init__(f"the compressed bytes don't expand to {length} bytes")


def decompress(data: bytes, length: int) -> bytes:
    """Decompress `data` to exactly `length` bytes. Raise LzfError if that isn't what it holds."""
    if length > len(data) * _LARGEST_RATIO:
        raise LzfError(length)
    output = bytearray()
    position = 0
    try:
        while position < len(data):
            control = data[position]
            position += 1
            if control < 32:  # literal bytes
                if len(output) + control >= length:
                    raise LzfError(length)
                output += data[position : position + control + 1]
                position += control + 1
                continue
            count = control >> 5
            if count == 7:
                count += data[position]
                position += 1
            start = len(output) - ((control & 31) << 8 | data[position]) - 1
            position += 1
            if len(output) + count + 2 > length:
                raise LzfError(length)
            _repeat(output, start, count + 2)
    except IndexError:
        raise LzfError(length) from None
    if len(output) != length or position != len(data):
        raise LzfError(length)
    return bytes(output)


def _repeat(output: bytearray, start: int, count: int) -> None:
    """Append `count` bytes from `start` on. The range may reach into the bytes that this call appends."""
    if start < 0:
        raise IndexError
    # Where source and destination overlap, the source is shorter than `count` and repeats.
    piece = output[start : start + count]
    output += (piece * (count // len(piece) + 1))[:count]
