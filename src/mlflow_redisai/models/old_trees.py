"""
Trees of ai.onnx.ml 3 as trees of ai.onnx.ml 1, the only ones that ONNX Runtime 1.11, and so RedisAI 1.2.7, has.

The older trees hold their numbers as float32 and would round float64 thresholds. So a column is replaced by its rank
among the thresholds that the trees compare it with, which float64 operators compute, and each threshold by its own
rank. Ranks are whole numbers, so a comparison of ranks in float32 gives what the comparison in float64 gave.

The values of the leaves are rounded to float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from redisai_engine.codec.values import Array

if TYPE_CHECKING:
    import onnx

TREES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
_SUFFIX = "_as_tensor"
# The thresholds and columns that one step ranks. They bound the memory of a run, 13 bytes for each threshold and row.
_MOST_THRESHOLDS, _MOST_COLUMNS = 256, 32


def lowers_trees(domain: str, version: int, limit: int) -> bool:
    """Return whether going from `version` of a domain to `limit` changes trees, and `lower_trees` can do it."""
    return domain == "ai.onnx.ml" and limit < 3 <= version < 5


def lower_trees(graph: onnx.GraphProto) -> None:
    """Rewrite, in place, all trees that hold float64 numbers."""
    nodes = [new for node in graph.node for new in _lowered(graph, node)]
    # The nodes belong to the field that is emptied next.
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _lowered(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    import onnx

    for attribute in node.attribute:
        if attribute.HasField("g"):
            lower_trees(attribute.g)
    if node.domain != "ai.onnx.ml" or node.op_type not in TREES:
        return [node]
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    wide = {name: onnx.numpy_helper.to_array(attributes.pop(name)) for name in list(attributes) if _is_wide(name)}
    for name, values in wide.items():
        attributes[name.removesuffix(_SUFFIX)] = values.astype(np.float32).tolist()
    source, before = node.input[0], []
    if f"nodes_values{_SUFFIX}" in wide:
        ranks = _Ranks(graph, node, attributes, wide[f"nodes_values{_SUFFIX}"])
        source, before = ranks.output, ranks.nodes
        attributes["nodes_values"] = ranks.thresholds.tolist()
    made = onnx.helper.make_node(node.op_type, [source], list(node.output), node.name, domain=node.domain, **attributes)
    return [*before, made]


def _is_wide(name: str) -> bool:
    return name.endswith(_SUFFIX)


class _Ranks:
    """The nodes that replace columns by their ranks, the name of their `output`, and the thresholds as ranks."""

    def __init__(
        self, graph: onnx.GraphProto, node: onnx.NodeProto, attributes: dict[str, Any], thresholds: Array
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.thresholds = np.zeros(len(thresholds), np.float32)
        self._graph = graph
        self._stem = f"{node.output[0]}_rank"
        self._source = node.input[0]
        columns = np.array(attributes["nodes_featureids"])
        inner = np.array([mode != b"LEAF" for mode in attributes["nodes_modes"]])
        self._known: list[Array] = []
        for column in range(int(columns.max()) + 1):
            asked = inner & (columns == column)
            known = np.unique(thresholds[asked])
            self._known.append(known)
            # The rank of a number: how many thresholds are below it, minus how many are above it.
            self.thresholds[asked] = 2 * np.searchsorted(known, thresholds[asked]) + 1 - len(known)
        self.output = self._where_gap(self._add("Concat", *[self._group(*each) for each in self._groups()], axis=1))

    def _groups(self) -> Iterator[tuple[int, int]]:
        """Yield the first column of each group, and the first one that is no more in it."""
        start = held = 0
        for column, known in enumerate(self._known):
            if column > start and (held + len(known) > _MOST_THRESHOLDS or column - start == _MOST_COLUMNS):
                yield start, column
                start, held = column, 0
            held += len(known)
        yield start, len(self._known)

    def _group(self, start: int, end: int) -> str:
        known = self._known[start:end]
        columns = np.repeat(np.arange(start, end), [len(each) for each in known])
        if not len(columns):
            columns, known = np.array([start]), [np.zeros(1), *known[1:]]
        numbers = self._add("Gather", self._source, self._constant(columns), axis=1)
        thresholds = self._constant(np.concatenate(known))
        signs = self._add("Sub", *[self._compared(how, numbers, thresholds) for how in ("Greater", "Less")])
        belongs = columns[:, None] == np.arange(start, end)
        return self._add("MatMul", signs, self._constant(belongs.astype(np.float32)))

    def _compared(self, how: str, numbers: str, thresholds: str) -> str:
        import onnx

        return self._add("Cast", self._add(how, numbers, thresholds), to=onnx.TensorProto.FLOAT)

    def _where_gap(self, ranks: str) -> str:
        """Return NaN where the number is NaN. The columns behind the last one that is asked about are left out."""
        numbers = self._add("Gather", self._source, self._constant(np.arange(len(self._known))), axis=1)
        is_number = self._add("Equal", numbers, numbers)
        return self._add("Where", is_number, ranks, self._constant(np.array(np.nan, np.float32)))

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        import onnx

        output = f"{self._stem}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def _constant(self, value: Array) -> str:
        import onnx

        name = f"{self._stem}_constant_{len(self._graph.initializer)}"
        self._graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        return name
