"""
A reader of ONNX files that extracts only what decides about loading: the operators, and tensors with external data.

Theory of operation. A model is a Protocol Buffers message: a sequence of fields, each with a number, a wire type and a
value. Some values are messages themselves. `_MESSAGES` lists the ones to descend into, by their field numbers in
onnx.proto; everything else is skipped by its length. So weights are never touched, and neither the package onnx nor a
copy of the model is needed.

Invariant: bytes that can't be parsed raise BadFile and never pass for a model without external data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

#: Wire types of Protocol Buffers. Types 3 and 4, groups, are deprecated, and ONNX has none.
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5

#: For each message, the fields that hold messages to descend into: field number and name of the message.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_OPERATOR = ("node", 4)
_TENSOR_NAME = ("tensor", 8)
_DATA_LOCATION = ("tensor", 14)
_EXTERNAL = 1


class BadFile(ValueError):
    """The bytes are not a Protocol Buffers message."""


@dataclass
class OnnxFile:
    """What was read of a model: the types of its operators, and the names of tensors whose data is in other files."""

    operators: set[str] = field(default_factory=set)
    external: list[str] = field(default_factory=list)


def read(blob: bytes) -> OnnxFile:
    """Read a model's operators and external tensors. Raise BadFile."""
    found = OnnxFile()
    view = memoryview(blob)
    # A list of messages to visit, not recursion: the file decides how deep its messages nest.
    waiting = [("model", 0, len(blob))]
    while waiting:
        message, start, end = waiting.pop()
        inside = _MESSAGES[message]
        name, external = "", False
        for number, value, low, high in _fields(view, start, end):
            if number in inside:
                waiting.append((inside[number], low, high))
            elif (message, number) == _OPERATOR:
                found.operators.add(_text(view[low:high]))
            elif (message, number) == _TENSOR_NAME:
                name = _text(view[low:high])
            elif (message, number) == _DATA_LOCATION:
                external |= value == _EXTERNAL  # any occurrence counts: a repeated field must not hide an earlier one
        if external:
            found.external.append(name)
    return found


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """
    Yield each field of a message: field number, value, start, end.

    The value is that of a varint, otherwise 0. Start and end delimit the bytes of a length-delimited field.
    """
    position = start
    while position < end:
        tag, position = _varint(view, position, end)
        number, kind = tag >> 3, tag & 7
        value, low, high = 0, position, position
        if kind == _VARINT:
            value, position = _varint(view, position, end)
        elif kind == _LENGTH:
            size, low = _varint(view, position, end)
            position = high = low + size
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            position += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise BadFile(f"a field has wire type {kind}, which ONNX doesn't use")
        if position > end:
            raise BadFile("a field extends beyond its message")
        yield number, value, low, high


def _varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    """Read a number of seven bits per byte, lowest first. Return it and the position after it."""
    value = shift = 0
    while position < end and shift < 70:  # 64 bits take at most ten bytes
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position  # Protocol Buffers drops the bits above 64
        shift += 7
    raise BadFile("a number has no end")


def _text(raw: memoryview) -> str:
    return bytes(raw).decode("utf-8", "replace")
