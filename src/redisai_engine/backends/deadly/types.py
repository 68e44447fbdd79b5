"""
Which names of a graph can't be of the types INT32 and INT64.

Theory of operation. ONNX Runtime refuses a model in which the inputs of an operator that must have the same type don't,
or a declared type isn't the one that follows. So names that must be of one type are joined into one set, and one known
type tells that of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.backends.deadly.operators import ALL_THE_SAME, NEVER_INTEGERS, SAME_OUTPUTS, SAME_TYPE
from redisai_engine.backends.deadly.reader import INT32, INT64, Graph, Name, Operation

_UNKNOWN = 0


class Types:
    """The types of one graph's names, as far as they matter."""

    def __init__(self, graph: Graph) -> None:
        self._above: dict[Name, Name] = {}
        self._unclear = graph.unclear
        known = [name for name, element in graph.types.items() if _is_other(element)]
        for node in graph.nodes:
            self._join(_of_one_type(node))
            if node.outputs and (node.operator in NEVER_INTEGERS or _is_other(node.type_of)):
                known.append(node.outputs[0])
        self._harmless = {self._top(name) for name in known if name not in self._unclear}

    def are_harmless(self, node: Operation) -> bool:
        """Return whether what a node divides is known not to be INT32 or INT64."""
        return any(
            name not in self._unclear and self._top(name) in self._harmless for name in (*node.inputs, *node.outputs)
        )

    def _join(self, names: Sequence[Name]) -> None:
        clear = [name for name in names if name not in self._unclear]
        for name in clear[1:]:
            self._above[self._top(name)] = self._top(clear[0])

    def _top(self, name: Name) -> Name:
        """Return the name that stands for the set of this one."""
        above = self._above
        while (over := above.get(name, name)) != name:
            above[name] = above.get(over, over)
            name = over
        return name


def _of_one_type(node: Operation) -> list[Name]:
    """Return names of a node's inputs and outputs that have the same type."""
    if node.operator in ALL_THE_SAME:
        return [*node.outputs[:1], *node.inputs]
    outputs = node.outputs if node.operator in SAME_OUTPUTS else node.outputs[:1]
    positions = SAME_TYPE.get(node.operator, ())
    return [*outputs, *(node.inputs[position] for position in positions if position < len(node.inputs))]


def _is_other(element: int) -> bool:
    return element not in (_UNKNOWN, INT32, INT64)
