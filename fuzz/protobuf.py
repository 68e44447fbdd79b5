"""
Protobuf messages changed without knowing their types: fields are cut out of the bytes, changed, and put together again.

So an ONNX model or TensorFlow graph stays one whose lengths are right, and its reader gets further than to the first.
"""

from __future__ import annotations

import struct
from random import Random

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}
_NUMBERS = (0, 1, 2, 7, 8, 127, 255, 65535, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_NAMES = (
    *(b"Loop", b"If", b"Scan", b"While", b"Identity", b"Add", b"Concat", b"Reshape", b"Expand", b"ConstantOfShape"),
    *(b"Tile", b"Resize", b"Gather", b"Einsum", b"OneHot", b"Range", b"ReadFile", b"WriteFile", b"MatchingFiles"),
    *(b"PyFunc", b"Placeholder", b"Const", b"Fill", b"RandomUniform", b"Print", b"Assert", b"Where", b"FIFOQueueV2"),
    *(b"location", b"../../../etc/passwd", b"x", b"y", b"a", b"", b"dtype", b"T", b"com.microsoft", b"\xff\xfe"),
)

# number and kind of a field, and its value: of _VARINT an integer, otherwise bytes
Field = tuple[int, int, "int | bytes"]


def parse(message: bytes) -> list[Field] | None:
    """Return the fields, or None for bytes that are no message."""
    fields: list[Field] = []
    position = 0
    try:
        while position < len(message):
            tag, position = _varint(message, position)
            kind = tag & 7
            if kind == _VARINT:
                value, position = _varint(message, position)
                fields.append((tag >> 3, kind, value))
                continue
            size = _SIZES.get(kind)
            if kind == _BYTES:
                size, position = _varint(message, position)
            if size is None or position + size > len(message):
                return None
            fields.append((tag >> 3, kind, message[position : position + size]))
            position += size
    except IndexError:
        return None
    return fields


def join(fields: list[Field]) -> bytes:
    parts = []
    for number, kind, value in fields:
        parts.append(_encoded(number << 3 | kind))
        if isinstance(value, int):
            parts.append(_encoded(value))
        else:
            parts.append(_encoded(len(value)) + value if kind == _BYTES else value)
    return b"".join(parts)


def changed(message: bytes, random: Random) -> bytes:
    """Return a message with one field changed, left out, doubled or moved, at any depth."""
    fields = parse(message)
    if not fields:
        return random.choice(_NAMES)
    place = random.randrange(len(fields))
    number, kind, value = fields[place]
    how = random.random()
    if kind == _BYTES and isinstance(value, bytes) and how < 0.7 and parse(value):
        fields[place] = (number, kind, changed(value, random))
    elif how < 0.75:
        fields[place] = (number, kind, _other(kind, value, random))
    elif how < 0.85:
        del fields[place]
    elif how < 0.95:
        fields[place:place] = [fields[random.randrange(len(fields))]] * random.choice((1, 2, 100))
    else:
        fields[place] = (random.randrange(1, 32), kind, value)
    return join(fields)


def _other(kind: int, value: int | bytes, random: Random) -> int | bytes:
    if kind == _VARINT:
        return random.choice(_NUMBERS)
    if kind == _BYTES:
        return random.choice((random.choice(_NAMES), bytes(value) * 2, random.randbytes(8)))
    return struct.pack("<q", random.choice((0, 1, -1, 2**62)))[: _SIZES[kind]]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128 or shift > 63:
            return number, position


def _encoded(number: int) -> bytes:
    number &= 2**64 - 1
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])
