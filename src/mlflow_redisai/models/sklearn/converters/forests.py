"""
scikit-learn's trees and sums over trees, to the last bit.

Theory of operation. ONNX's tree operators add up float32, or in an order that depends on threads, so forests would
decide ties otherwise than scikit-learn. Here they only find the leaf: each tree is a target of its own, to which just
one leaf adds its number. A table in float64 has what scikit-learn keeps at the leaf. CumSum adds the trees up in their
order, as scikit-learn does, and what remains (a division, the first largest class) follows scikit-learn's code.

Invariant: between the leaf and the answer, all is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, labels, nodes_of, put, source
from mlflow_redisai.models.trees.ensemble import float32_not_above
from redisai_engine.codec.values import Array

# How many float64 numbers of a row are added up at once. It bounds the memory for large batches.
_NUMBERS_AT_ONCE = 64

# The version of ai.onnx.ml that has been in every ONNX Runtime.
_ML_OPSET = 1


@dataclass(frozen=True)
class Leaves:
    """One tree: the numbers at its nodes, of which only those at leaves count, and the columns that it reads."""

    tree: Any
    values: Array
    columns: Array | None = None


def sum_of_trees(nodes: Nodes, rows: str, trees: Sequence[Leaves], begin: Array | None = None) -> str:
    """
    Return the name of the sum of the trees' numbers, as a matrix: a row for each of `rows`, added up in order.

    `begin` has the numbers that the sum begins with.
    """
    width = trees[0].values.shape[1]
    rounded = nodes.cast(rows, np.float32)
    total = "" if begin is None else nodes.constant(begin.reshape(1, 1, width))
    groups = _groups(trees, max(1, _NUMBERS_AT_ONCE // width))
    for group in groups:
        found = _numbers_at_leaves(nodes, rounded, group)
        if begin is not None and group is groups[0]:
            total = _for_every_row(nodes, total, found)
        if total:
            found = nodes.add("Concat", total, found, axis=1)
        count = len(group) + bool(total)
        added = nodes.add("CumSum", found, nodes.constant(np.array(1, np.int64))) if count > 1 else found
        total = nodes.add("Gather", added, nodes.constant(np.array([count - 1])), axis=1)
    return nodes.add("Reshape", total, nodes.constant(np.array([-1, width])))


def _for_every_row(nodes: Nodes, constant: str, like: str) -> str:
    first = nodes.add("Gather", like, nodes.constant(np.array([0])), axis=1)
    # Leaves hold finite numbers, so this is zero everywhere.
    return nodes.add("Add", nodes.add("Mul", first, nodes.constant(np.float64(0))), constant)


def _groups(trees: Sequence[Leaves], size: int) -> list[Sequence[Leaves]]:
    return [trees[start : start + size] for start in range(0, len(trees), size)]


def _numbers_at_leaves(nodes: Nodes, rounded: str, trees: Sequence[Leaves]) -> str:
    """Return the name of the numbers at each tree's leaf: rows, trees, numbers."""
    at_leaf = [np.flatnonzero(one.tree.children_left == -1) for one in trees]
    first = np.concatenate([[0], np.cumsum([len(one) for one in at_leaf])])
    attributes = _attributes(trees, at_leaf, first)
    found = nodes.add("TreeEnsembleRegressor", rounded, domain="ai.onnx.ml", **attributes)
    index = nodes.cast(found, np.int64)
    table = np.concatenate([one.values[leaves] for one, leaves in zip(trees, at_leaf, strict=True)])
    return nodes.add("Gather", nodes.constant(table.astype(np.float64)), index, axis=0)


def _attributes(trees: Sequence[Leaves], at_leaf: list[Array], first: Array) -> dict[str, Any]:
    counts = [one.tree.node_count for one in trees]
    inner = [one.tree.children_left != -1 for one in trees]
    ids = np.repeat(np.arange(len(trees)), counts)
    leaf_ids = np.repeat(np.arange(len(trees)), [len(one) for one in at_leaf])
    joined = np.concatenate
    return {
        "n_targets": len(trees),
        "post_transform": "NONE",
        "nodes_treeids": ids.tolist(),
        "nodes_nodeids": joined([np.arange(count) for count in counts]).tolist(),
        "nodes_featureids": joined([_features(one) for one in trees]).tolist(),
        "nodes_modes": ["BRANCH_LEQ" if each else "LEAF" for each in joined(inner)],
        "nodes_values": joined(
            [np.where(each, float32_not_above(one.tree.threshold), 0) for one, each in zip(trees, inner, strict=True)]
        )
        .astype(np.float32)
        .tolist(),
        "nodes_hitrates": [1.0] * len(ids),
        "nodes_truenodeids": joined([np.maximum(one.tree.children_left, 0) for one in trees]).tolist(),
        "nodes_falsenodeids": joined([np.maximum(one.tree.children_right, 0) for one in trees]).tolist(),
        "nodes_missing_value_tracks_true": joined([_ways_of_gaps(one.tree) for one in trees]).tolist(),
        "target_treeids": leaf_ids.tolist(),
        "target_nodeids": joined(at_leaf).tolist(),
        "target_ids": leaf_ids.tolist(),
        "target_weights": np.arange(first[-1], dtype=np.float32).tolist(),
    }


def _features(one: Leaves) -> Array:
    read: Array = np.maximum(one.tree.feature, 0)
    if one.columns is None:
        return read
    chosen: Array = np.asarray(one.columns)[read]
    return chosen


def _ways_of_gaps(tree: Any) -> Array:
    """Return, for every node, 1 if a gap goes left, else 0. Older versions of scikit-learn know no gaps."""
    ways = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count))
    return np.where(tree.children_left == -1, 0, ways).astype(np.int64)


# -- trees, and forests, which average them --------------------------------------------------------


def _trees_of(estimator: Any) -> list[Leaves]:
    classifies = hasattr(estimator, "classes_")
    found = []
    for one in getattr(estimator, "estimators_", [estimator]):
        values = one.tree_.value if classifies else one.tree_.value[:, :, :1]
        found.append(Leaves(one.tree_, values.reshape(len(values), -1)))
    return found


def _average(nodes: Nodes, operator: Any, trees: list[Leaves]) -> str:
    total = sum_of_trees(nodes, source(nodes, operator), trees)
    if not hasattr(operator.raw_operator, "estimators_"):
        return total
    return nodes.add("Div", total, nodes.constant(np.float64(len(trees))))


def convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "trees")
    answer = _average(nodes, operator, _trees_of(operator.raw_operator))
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container, _ML_OPSET)


def convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "trees")
    estimator = operator.raw_operator
    averages = _average(nodes, operator, _trees_of(estimator))
    if estimator.n_outputs_ == 1:
        label = labels(nodes, estimator.classes_, nodes.add("ArgMax", averages, axis=1, keepdims=0))
        probabilities = averages
    else:
        label, probabilities = _several_targets(nodes, averages, estimator.classes_)
    give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
    give(nodes, probabilities, operator.outputs[1].full_name, operator.outputs[1].type)
    put(nodes, container, _ML_OPSET)


def _several_targets(nodes: Nodes, averages: str, classes: list[Array]) -> tuple[str, str]:
    """Return the names of labels, a column a target, and of probabilities, stacked along a first axis by target."""
    widest = max(len(each) for each in classes)
    stacked = nodes.add("Reshape", averages, nodes.constant(np.array([-1, len(classes), widest])))
    columns = []
    for index, each in enumerate(classes):
        own = nodes.add("Gather", stacked, nodes.constant(np.array(index)), axis=1)
        # A target with fewer classes than the widest is padded.
        own = nodes.add("Gather", own, nodes.constant(np.arange(len(each))), axis=1)
        columns.append(labels(nodes, each, nodes.add("ArgMax", own, axis=1, keepdims=1)))
    return nodes.add("Concat", *columns, axis=1), nodes.add("Transpose", stacked, perm=[1, 0, 2])


# -- gradient boosting, which adds them to a first guess ------------------------------------------


def _raw(nodes: Nodes, operator: Any) -> tuple[str, int]:
    """Return the name of the sum of the boosted trees, and how many there are at each stage."""
    estimator = operator.raw_operator
    stages, width = estimator.estimators_.shape
    # The first guess is the same for every row: other initial estimators are refused.
    begin = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))[0]
    sums = []
    for position in range(width):
        trees = [
            Leaves(one.tree_, estimator.learning_rate * one.tree_.value[:, 0, :1])
            for one in estimator.estimators_[:stages, position]
        ]
        sums.append(sum_of_trees(nodes, source(nodes, operator), trees, begin[position : position + 1]))
    return (sums[0] if width == 1 else nodes.add("Concat", *sums, axis=1)), width


def convert_boosting_regressor(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "boosted")
    give(nodes, _raw(nodes, operator)[0], operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container, _ML_OPSET)


def convert_boosting_classifier(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "boosted")
    estimator = operator.raw_operator
    raw, width = _raw(nodes, operator)
    if width > 1:
        position = nodes.add("ArgMax", raw, axis=1, keepdims=0)
        probabilities = nodes.add("Softmax", raw, axis=1)
    else:
        below = nodes.cast(nodes.add("Less", raw, nodes.constant(np.float64(0))), np.int64)
        position = nodes.add("Sub", nodes.constant(np.int64(1)), below)
        position = nodes.add("Reshape", position, nodes.constant(np.array([-1])))
        # The exponential loss has half the logarithm of the odds.
        odds = nodes.add("Mul", raw, nodes.constant(np.float64(2))) if estimator.loss == "exponential" else raw
        second = nodes.add("Sigmoid", odds)
        first = nodes.add("Sub", nodes.constant(np.float64(1)), second)
        probabilities = nodes.add("Concat", first, second, axis=1)
    if container.get_options(estimator, {"raw_scores": False}).get("raw_scores"):
        probabilities = raw if width > 1 else nodes.add("Concat", nodes.add("Neg", raw), raw, axis=1)
    label = labels(nodes, estimator.classes_, position)
    give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
    give(nodes, probabilities, operator.outputs[1].full_name, operator.outputs[1].type)
    put(nodes, container, _ML_OPSET)


# -- isolation forests, which add up depths --------------------------------------------------------


def convert_isolation_forest(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "isolation")
    estimator = operator.raw_operator
    depths = sum_of_trees(nodes, source(nodes, operator), _depths(estimator), np.zeros(1))
    ratio = nodes.add("Div", depths, nodes.constant(np.float64(_denominator(estimator))))
    power = nodes.add("Pow", nodes.constant(np.float64(2)), nodes.add("Neg", ratio))
    samples = nodes.add("Neg", power)
    scores = nodes.add("Sub", samples, nodes.constant(np.float64(estimator.offset_)))
    # The label is decided by the depth: a power that is rounded otherwise would decide ties otherwise.
    above = nodes.add("Not", nodes.add("Less", depths, nodes.constant(np.float64(_least_depth(estimator)))))
    twice = nodes.add("Mul", nodes.cast(above, np.int64), nodes.constant(np.int64(2)))
    label = nodes.add("Sub", twice, nodes.constant(np.int64(1)))
    for name, output in zip((label, scores, samples), operator.outputs, strict=False):
        give(nodes, name, output.full_name, output.type)
    put(nodes, container, _ML_OPSET)


def isolation_forest_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType

    count = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = Int64TensorType([count, 1])
    for output in operator.outputs[1:]:
        output.type.shape = [count, 1]


def _depths(estimator: Any) -> list[Leaves]:
    found = []
    for index, (one, columns) in enumerate(zip(estimator.estimators_, estimator.estimators_features_, strict=True)):
        depth = estimator._decision_path_lengths[index] + estimator._average_path_length_per_tree[index] - 1.0
        found.append(Leaves(one.tree_, np.asarray(depth, np.float64).reshape(-1, 1), columns))
    return found


def _denominator(estimator: Any) -> float:
    from sklearn.ensemble._iforest import _average_path_length

    return float(len(estimator.estimators_) * _average_path_length([estimator._max_samples])[0])


def _least_depth(estimator: Any) -> float:
    """Return the least sum of depths that scikit-learn's own formula calls normal."""

    def is_normal(depth: float) -> bool:
        score = 2 ** (-np.divide(np.array([depth]), _denominator(estimator)))
        return bool((-score - estimator.offset_ >= 0)[0])

    low, high = 0.0, 1.0
    if is_normal(low):
        return -np.inf
    while not is_normal(high):
        high *= 2
        if high > 1e300:
            return np.inf
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return high
        low, high = (low, middle) if is_normal(middle) else (middle, high)


# -- leaves as columns ----------------------------------------------------------------------------


def embedding_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType

    width = sum(len(each) for each in operator.raw_operator.one_hot_encoder_.categories_)
    operator.outputs[0].type = DoubleTensorType([operator.inputs[0].get_first_dimension(), width])


def convert_embedding(scope: Any, operator: Any, container: Any) -> None:
    """Write the forest that has a column for each leaf, one where a row reaches it."""
    nodes = nodes_of(scope, "embedding")
    estimator = operator.raw_operator
    rounded = nodes.cast(source(nodes, operator), np.float32)
    parts = []
    for one, known in zip(estimator.estimators_, estimator.one_hot_encoder_.categories_, strict=True):
        leaves = np.flatnonzero(one.tree_.children_left == -1)
        tree = Leaves(one.tree_, leaves.astype(np.float64))
        attributes = _attributes([tree], [leaves], np.array([0, len(leaves)]))
        found = nodes.cast(nodes.add("TreeEnsembleRegressor", rounded, domain="ai.onnx.ml", **attributes), np.int64)
        reached = nodes.constant(np.searchsorted(leaves, known))
        parts.append(nodes.cast(nodes.add("Equal", found, reached), np.float64))
    give(nodes, nodes.add("Concat", *parts, axis=1), operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container, _ML_OPSET)
