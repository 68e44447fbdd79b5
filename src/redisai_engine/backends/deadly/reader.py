"""
A reader of ONNX files that extracts what decides about divisions: nodes, declared types, and constant divisors.

Theory of operation. It reads graphs of all levels, and functions, into one list. A name is that of a value in one
function, or in the model outside of functions. A name that is given twice there, in different branches, says nothing:
it has no type and no known value. Neither has a field that is there twice, which others may read in another way.

Invariant: what is unknown is left out, so that it counts as dangerous.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from redisai_engine.backends.deadly.operators import PASSING
from redisai_engine.backends.onnx_file import Operator, fields, numbers

_VARINT, _LENGTH = 0, 2

Name = tuple[int, str]  # number of the function, 0 outside of functions, and name
Span = tuple[int, int]  # start and end of a message

INT32, INT64 = 6, 7

#: Of tensors of these types: the field with their values one by one, and NumPy's type of the raw ones.
_INTEGERS = {INT32: (5, "<i4"), INT64: (7, "<i8")}
_RAW = 9

#: In larger attributes, numbers aren't read. Divisors are single numbers.
_MOST_BYTES = 1 << 16

_OF_THE_MODEL = ("", "")  # the operator of nodes that call a function of the model, whatever its name

_FLOAT = 1
_TYPE_OF_ATTRIBUTE = {"value_float": 1, "value_floats": 1, "value_int": 7, "value_ints": 7, "value_string": 8}
_FIELD_OF_ATTRIBUTE = {"value_int": 3, "value_ints": 8}
_BY_ATTRIBUTE = {("", "Cast"), ("", "Constant"), ("", "ConstantOfShape")}


@dataclass
class Operation:
    """A node. `type_of` is the element type that its attributes give to its output, 0 if they give none."""

    operator: Operator
    inputs: list[Name]
    outputs: list[Name]
    type_of: int = 0


@dataclass
class Graph:
    """What was read of a model. `types` are the element types of names that are declared or constant."""

    nodes: list[Operation] = field(default_factory=list)
    types: dict[Name, int] = field(default_factory=dict)
    harmless: set[Name] = field(default_factory=set)  # constants of integers, none of which is 0 or -1
    unclear: set[Name] = field(default_factory=set)  # given more than once

    def is_harmless(self, divisors: list[Name]) -> bool:
        """Return whether all of these are known not to be 0 or -1."""
        return bool(divisors) and all(name in self.harmless and name not in self.unclear for name in divisors)


def read(blob: bytes) -> Graph:
    """Read a model. Raise BadFile."""
    reader = _GraphReader(blob)
    reader.read()
    return reader.graph


class _Message:
    """The fields of one message, by number."""

    def __init__(self, view: memoryview, span: Span, *, skip_numbers: bool = False) -> None:
        self._view = view
        self._found: dict[int, list[tuple[int, int, Span]]] = {}
        for number, kind, value, low, high in fields(view, *span, skip_numbers=skip_numbers):
            self._found.setdefault(number, []).append((kind, value, (low, high)))

    def spans(self, number: int) -> list[Span]:
        """Return where the messages or texts of a field are."""
        return [span for kind, _, span in self._found.get(number, ()) if kind == _LENGTH]

    def inner(self, number: int) -> _Message:
        """Return the message of a field, or an empty one if it isn't there exactly once."""
        spans = self.spans(number)
        return _Message(self._view, spans[0] if len(spans) == 1 else (0, 0))

    def text(self, number: int) -> str:
        """Return the last text of a field, which is the one that counts."""
        low, high = (self.spans(number) or [(0, 0)])[-1]
        return bytes(self._view[low:high]).decode("utf-8", "replace")

    def texts(self, number: int) -> list[str]:
        return [bytes(self._view[low:high]).decode("utf-8", "replace") for low, high in self.spans(number)]

    def number(self, number: int) -> int:
        """Return the number of a field, or 0 if it isn't there exactly once."""
        found = self._found.get(number, ())
        return found[0][1] if len(found) == 1 and found[0][0] == _VARINT else 0

    def numbers(self, number: int) -> Iterator[int]:
        """Yield the numbers of a repeated field."""
        for kind, value, span in self._found.get(number, ()):
            yield from numbers(self._view, kind, value, *span)

    def raw(self, number: int) -> memoryview:
        low, high = (self.spans(number) or [(0, 0)])[-1]
        return self._view[low:high]

    def has(self, number: int) -> bool:
        return number in self._found


class _GraphReader:
    """Reads one file. The graphs in `waiting` have the place of their function with them."""

    def __init__(self, blob: bytes) -> None:
        self.graph = Graph()
        self._view = memoryview(blob)
        self._given: Counter[Name] = Counter()
        self._functions: set[Operator] = set()
        self._waiting: list[tuple[Span, int]] = []

    def read(self) -> None:
        model = _Message(self._view, (0, len(self._view)))
        functions = [_Message(self._view, span) for span in model.spans(25)]
        self._functions = {_operator(function.text(10), function.text(1)) for function in functions}
        for number, function in enumerate(functions, 1):
            self._function(function, number)
        self._waiting += [(span, 0) for span in model.spans(7)]
        while self._waiting:
            self._graph(*self._waiting.pop())
        self.graph.unclear = {name for name, times in self._given.items() if times > 1 or not name[1]}
        self._pass_on()

    def _function(self, message: _Message, owner: int) -> None:
        for name in message.texts(4):
            self._given[owner, name] += 1
        for node in message.spans(7):
            self._node(node, owner)

    def _graph(self, span: Span, owner: int) -> None:
        message = _Message(self._view, span)
        constants = {self._initializer(tensor, owner) for tensor in message.spans(5)}
        for sparse in message.spans(15):
            self._given[owner, _Message(self._view, sparse).inner(1).text(8)] += 1
        for node in message.spans(1):
            self._node(node, owner)
        for info in message.spans(11):  # in old files, initializers are among the inputs
            name = self._declared(info, owner)
            if name not in constants:
                self._given[name] += 1
        for info in message.spans(12) + message.spans(13):
            self._declared(info, owner)

    def _declared(self, span: Span, owner: int) -> Name:
        """Read the declared type of a name."""
        message = _Message(self._view, span)
        name = (owner, message.text(1))
        element = message.inner(2).inner(1).number(1)
        if element:
            self._set_type(name, element)
        return name

    def _initializer(self, span: Span, owner: int) -> Name:
        message = _Message(self._view, span)
        name = (owner, message.text(8))
        self._given[name] += 1
        self._constant(name, message)
        return name

    def _constant(self, name: Name, tensor: _Message) -> None:
        self._set_type(name, tensor.number(2))
        if _is_harmless(tensor):
            self.graph.harmless.add(name)

    def _node(self, span: Span, owner: int) -> None:
        message = _Message(self._view, span)
        operator = _operator(message.text(7), message.text(4))
        node = Operation(
            _OF_THE_MODEL if operator in self._functions else operator,
            [(owner, name) for name in message.texts(1)],
            [(owner, name) for name in message.texts(2)],
        )
        self.graph.nodes.append(node)
        self._given.update(node.outputs)
        self._attributes(node, message.spans(5))
        for each in message.spans(5):
            attribute = _Message(self._view, each, skip_numbers=True)
            self._waiting += [(inner, owner) for inner in attribute.spans(6) + attribute.spans(11)]

    def _attributes(self, node: Operation, spans: list[Span]) -> None:
        """Read what the only attribute of a node says about its output."""
        if node.operator == ("", "ConstantOfShape") and not spans:
            node.type_of = _FLOAT
        if node.operator not in _BY_ATTRIBUTE or len(spans) != 1 or not node.outputs:
            return
        attribute = _Message(self._view, spans[0], skip_numbers=spans[0][1] - spans[0][0] > _MOST_BYTES)
        _, kind = node.operator
        name = attribute.text(1)
        if (kind, name) == ("Cast", "to"):
            node.type_of = attribute.number(3)
        elif (kind, name) == ("ConstantOfShape", "value"):
            node.type_of = attribute.inner(5).number(2)
        elif (kind, name) == ("Constant", "value"):
            self._constant(node.outputs[0], attribute.inner(5))
        elif kind == "Constant":
            node.type_of = _TYPE_OF_ATTRIBUTE.get(name, 0)
            if _has_no_zero(attribute.numbers(_FIELD_OF_ATTRIBUTE.get(name, 0))):
                self.graph.harmless.add(node.outputs[0])

    def _pass_on(self) -> None:
        """Follow harmless constants through nodes that only change their shape. They are given before they are used."""
        for node in self.graph.nodes:
            if node.operator in PASSING and node.outputs and self.graph.is_harmless(node.inputs[:1]):
                self.graph.harmless.add(node.outputs[0])

    def _set_type(self, name: Name, element: int) -> None:
        """Note a type. Two that differ make none."""
        self.graph.types[name] = element if self.graph.types.get(name, element) == element else 0


def _operator(domain: str, name: str) -> Operator:
    return ("" if domain == "ai.onnx" else domain), name


def _has_no_zero(values: Iterable[int]) -> bool:
    """Return whether there are numbers, and none of them is 0 or -1."""
    found = set(values)
    return bool(found) and not found & {0, -1}


def _is_harmless(tensor: _Message) -> bool:
    """Return whether a constant is known to have integers other than 0 and -1 only."""
    element = tensor.number(2)
    if element not in _INTEGERS:
        return False
    one_by_one, numpy_type = _INTEGERS[element]
    raw = tensor.raw(_RAW)
    if tensor.has(one_by_one) == bool(raw) or tensor.has(13) or tensor.has(14) or len(tensor.spans(_RAW)) > 1:
        return False
    if not raw:
        return _has_no_zero(tensor.numbers(one_by_one))
    if len(raw) % np.dtype(numpy_type).itemsize:
        return False
    array = np.frombuffer(raw, numpy_type)
    return not bool(((array == 0) | (array == -1)).any())
