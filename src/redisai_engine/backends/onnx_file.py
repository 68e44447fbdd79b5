"""
A reader of ONNX files that extracts only what decides about loading and running: nodes, tensors and their sizes.

Theory of operation. A model is a Protocol Buffers message: a sequence of fields, each with a number, a wire type and a
value. Some values are messages themselves. `_MESSAGES` lists the ones to descend into, by their field numbers in
onnx.proto; everything else is skipped by its length. So weights are never touched, and neither the package onnx nor a
copy of the model is needed.

The reader is stricter than ONNX Runtime's: what the two could read differently is refused.

Invariant: bytes that can't be parsed raise BadFile and never pass for a model without external data.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

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
_DIMENSIONS = {"tensor": 1, "sparse": 3}
_TENSOR_NAME, _DATA_TYPE, _EXTERNAL_DATA, _DATA_LOCATION = 8, 2, 13, 14
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_DOMAIN = 1, 2, 4, 7
_FUNCTION_NAME, _FUNCTION_DOMAIN = 1, 10

#: A run of an attribute's numbers, `ints` or `floats`, each a field of its own. Trees have hundreds of thousands.
_NUMBERS = re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f]){1,1000}|(?:\x3d.{4}){1,1000}", re.DOTALL)

#: Elements per byte of the types that are smaller than one.
_PER_BYTE = {21: 2, 22: 2, 23: 2, 25: 4, 26: 4}

#: Sparse tensors are made dense when they are loaded. So many elements in all, or per byte of the file, are allowed.
_DENSE_ELEMENTS, _DENSE_PER_BYTE = 1 << 24, 64

#: Calls of a model's own functions are replaced by their nodes, which takes about 0.2 ms for each.
_MOST_INLINED = 20_000
_HUGE = 1 << 40

Operator = tuple[str, str]  # domain, empty for ONNX' own, and type


class BadFile(ValueError):
    """The bytes are not an ONNX model, or one that can't be loaded safely. The text says what is wrong with them."""


@dataclass
class Node:
    """A node of a graph or function, with the names of its inputs and outputs."""

    type: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    size: int = 0  # bytes of its message

    @property
    def operator(self) -> Operator:
        return ("" if self.domain == "ai.onnx" else self.domain), self.type


@dataclass
class OnnxFile:
    """
    What was read of a model. `external` names the tensors whose data is in other files.

    `nodes` are those of the main graph. Those of branches, loops and functions are in `inner`.
    """

    nodes: list[Node] = field(default_factory=list)
    inner: list[Node] = field(default_factory=list)
    constants: set[str] = field(default_factory=set)  # the main graph's initializers
    functions: set[Operator] = field(default_factory=set)
    external: list[str] = field(default_factory=list)


def read(blob: bytes) -> OnnxFile:
    """Read what decides about a model. Raise BadFile."""
    reader = _FileReader(blob)
    reader.read()
    return reader.found


class _FileReader:
    """Reads one file. A visit is a message, its place, and the path of messages above it."""

    def __init__(self, blob: bytes) -> None:
        self.found = OnnxFile()
        self._view = memoryview(blob)
        self._dense = 0
        # The calls in each function, and in the model outside of functions (None).
        self._calls: dict[Operator | None, Counter[Operator]] = {None: Counter()}

    def read(self) -> None:
        size = len(self._view)
        # A list of messages to visit, not recursion: the file decides how deep its messages nest.
        waiting: list[tuple[str, int, int, int, Operator | None]] = [("model", 0, size, 0, None)]
        while waiting:
            message, start, end, depth, owner = waiting.pop()
            inside = _MESSAGES[message]
            if message == "function":
                owner = self._function(start, end)
            elif message == "node":
                self._node(start, end, owner, is_main=depth == 2 and owner is None)
            elif message == "tensor":
                self._tensor(start, end, is_main=depth == 2)
            elif message == "sparse":
                self._sparse(start, end)
            if not inside:
                continue
            for number, kind, _, low, high in fields(self._view, start, end, skip_numbers=message == "attribute"):
                if number in inside and kind == _LENGTH:
                    waiting.append((inside[number], low, high, depth + 1, owner))
        self.found.nodes.reverse()  # the latest to be added to the list was visited first
        if self._dense > max(_DENSE_ELEMENTS, _DENSE_PER_BYTE * size):
            raise BadFile(f"its sparse tensors have {self._dense} elements in all, of which the file gives few")
        self._check_functions()

    def _node(self, start: int, end: int, owner: Operator | None, *, is_main: bool) -> None:
        node = Node(size=end - start)
        for number, kind, _, low, high in fields(self._view, start, end):
            if kind != _LENGTH:
                continue
            if number == _NODE_INPUT:
                node.inputs.append(self._text(low, high))
            elif number == _NODE_OUTPUT:
                node.outputs.append(self._text(low, high))
            elif number == _NODE_OPERATOR:
                node.type = self._text(low, high)
            elif number == _NODE_DOMAIN:
                node.domain = self._text(low, high)
        (self.found.nodes if is_main else self.found.inner).append(node)
        self._calls[owner][node.operator] += 1

    def _tensor(self, start: int, end: int, *, is_main: bool) -> None:
        name, data_type, is_external = "", 0, False
        shape: list[int] = []
        for number, kind, value, low, high in fields(self._view, start, end):
            if number == _TENSOR_NAME:
                name = self._text(low, high)
            elif number == _DIMENSIONS["tensor"]:
                shape += numbers(self._view, kind, value, low, high)
            elif number == _DATA_TYPE:
                data_type = value
            elif number in (_EXTERNAL_DATA, _DATA_LOCATION):
                # Any occurrence and any value count: the last one or the lower bits might be what others see.
                is_external |= number == _EXTERNAL_DATA or value != 0
        if is_external:
            self.found.external.append(name)
        else:
            self._check_size(name, shape, (end - start) * _PER_BYTE.get(data_type, 1))
        if is_main:
            self.found.constants.add(name)

    def _sparse(self, start: int, end: int) -> None:
        shape: list[int] = []
        for number, kind, value, low, high in fields(self._view, start, end):
            if number == _DIMENSIONS["sparse"]:
                shape += numbers(self._view, kind, value, low, high)
        self._check_size("that is sparse", shape, None)
        self._dense += prod(shape)

    @staticmethod
    def _check_size(name: str, shape: list[int], most: int | None) -> None:
        if any(length < 0 for length in shape):
            raise BadFile(f"tensor {name} has the shape {shape}, with a negative length")
        if most is not None and prod(shape) > most:
            raise BadFile(f"tensor {name} has the shape {shape}, for which the file has too few bytes")

    def _function(self, start: int, end: int) -> Operator:
        name = domain = ""
        for number, kind, _, low, high in fields(self._view, start, end):
            if kind == _LENGTH and number == _FUNCTION_NAME:
                name = self._text(low, high)
            elif kind == _LENGTH and number == _FUNCTION_DOMAIN:
                domain = self._text(low, high)
        function = Node(name, domain).operator
        self.found.functions.add(function)
        # Two functions of one name, which are told apart by more than that, count as one that does both.
        self._calls.setdefault(function, Counter())
        return function

    def _check_functions(self) -> None:
        """Refuse functions that call each other so often that a small file makes a huge graph."""
        sizes: dict[Operator | None, int] = {}
        waiting: list[Operator | None] = [None]
        under_way: set[Operator | None] = set()
        while waiting:
            function = waiting[-1]
            unknown = [each for each in self._calls[function] if each in self._calls and each not in sizes]
            if not unknown:
                calls = self._calls[function].items()
                sizes[function] = min(_HUGE, sum(times * sizes.get(each, 1) for each, times in calls))
                waiting.pop()
            elif function in under_way:
                raise BadFile("its functions call themselves")
            else:
                under_way.add(function)
                waiting += unknown
        if self.found.functions and sizes[None] > _MOST_INLINED + len(self.found.nodes) + len(self.found.inner):
            raise BadFile(f"its functions stand for more than {_MOST_INLINED} nodes")

    def _text(self, low: int, high: int) -> str:
        return bytes(self._view[low:high]).decode("utf-8", "replace")


def fields(
    view: memoryview, start: int, end: int, *, skip_numbers: bool = False
) -> Iterator[tuple[int, int, int, int, int]]:
    """
    Yield each field of a message: field number, wire type, value, start, end.

    The value is that of a varint, otherwise 0. Start and end delimit the bytes of a length-delimited field. With
    `skip_numbers`, which is for attributes, their numbers are left out.
    """
    position = start
    while position < end:
        if skip_numbers and (run := _NUMBERS.match(view, position, end)) is not None:
            position = run.end()
            continue
        tag, position = _varint(view, position, end)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:  # other readers drop the bits above, and find the number of another field
            raise BadFile(f"a field has the number {number}")
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
        yield number, kind, value, low, high


def numbers(view: memoryview, kind: int, value: int, low: int, high: int) -> Iterator[int]:
    """Yield the signed numbers of one occurrence of a repeated field, packed or not."""
    if kind == _VARINT:
        yield _signed(value)
    while kind == _LENGTH and low < high:
        packed, low = _varint(view, low, high)
        yield _signed(packed)


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


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
