"""
Trees of scikit-learn as ONNX: the same way through each tree for every float32 and for every gap.

skl2onnx rounds thresholds to the nearest float32 and forgets which way a gap (NaN) goes; both are put right here, one
before the conversion and one after it. Trees of histogram gradient boosting compare float64: those are in `float64`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_redisai.models.sklearn.estimators import every_estimator, last_of
from mlflow_redisai.models.trees.ensemble import float32_not_above
from redisai_engine.codec.values import Array

if TYPE_CHECKING:
    import onnx


def with_float32_thresholds(estimator: Any) -> Any:
    """
    Return a copy whose trees have float32 thresholds and go the same way for every float32.

    A threshold is a float64, and scikit-learn rounds what it compares with it to float32. Rounded to the nearest
    float32, as ONNX stores it, a threshold may let a value pass that it should not; rounded down it never does.
    """
    copied = copy.deepcopy(estimator)
    for inner in every_estimator(last_of(copied)):
        tree = getattr(inner, "tree_", None)
        if tree is not None:
            tree.threshold[:] = float32_not_above(tree.threshold)
    return copied


@contextlib.contextmanager
def plain_tree_attributes() -> Iterator[None]:
    """Let skl2onnx write the trees of histogram gradient boosting, for which it hands booleans to newer onnx."""
    from skl2onnx.common import tree_ensemble

    original = tree_ensemble.add_node

    def add_node(*args: Any, nodes_missing_value_tracks_true: Any = 0, **options: Any) -> Any:
        plain = [int(value) if isinstance(value, np.integer) else value for value in args]
        return original(*plain, nodes_missing_value_tracks_true=int(nodes_missing_value_tracks_true), **options)

    tree_ensemble.add_node = add_node
    try:
        yield
    finally:
        tree_ensemble.add_node = original


# -- gaps -----------------------------------------------------------------------------------------


def set_ways_of_gaps(proto: onnx.ModelProto, estimator: Any) -> None:
    """Write into the graph's trees to which side scikit-learn sends a gap, which is another one at each node."""
    trees = [inner.tree_ for inner in every_estimator(estimator) if hasattr(inner, "tree_")]
    for node in proto.graph.node:
        # Histogram trees in float64 have no such attribute any more, and know their ways already.
        if any(attribute.name == "nodes_values" for attribute in node.attribute):
            _set_ways(node, trees)


def _set_ways(node: onnx.NodeProto, trees: list[Any]) -> None:
    import onnx

    attributes = {attribute.name: attribute for attribute in node.attribute}
    ids = np.array(attributes["nodes_treeids"].ints)
    ways = np.zeros(len(ids), np.int64)
    for tree_id in np.unique(ids):
        places = np.flatnonzero(ids == tree_id)
        tree = _take_tree(trees, attributes, places)
        if tree is None:
            return
        numbers = np.array(attributes["nodes_nodeids"].ints)[places]
        ways[places] = np.where(tree.children_left == -1, 0, tree.missing_go_to_left)[numbers]
    kept = [attribute for attribute in node.attribute if attribute.name != "nodes_missing_value_tracks_true"]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.append(onnx.helper.make_attribute("nodes_missing_value_tracks_true", ways.tolist()))


def _take_tree(trees: list[Any], attributes: dict[str, Any], places: Array) -> Any:
    """Return the tree written at `places`; trees are written in their order, so the next one is tried first."""
    numbers = np.array(attributes["nodes_nodeids"].ints)[places]
    values = np.array(attributes["nodes_values"].floats, np.float32)[places]
    features = np.array(attributes["nodes_featureids"].ints)[places]
    for position, tree in enumerate(trees):
        if tree.node_count == len(places) and _is_same(tree, numbers, values, features):
            return trees.pop(position)
    return None


def _is_same(tree: Any, numbers: Array, values: Array, features: Array) -> bool:
    inner = tree.children_left[numbers] != -1
    same_features = np.array_equal(tree.feature[numbers][inner], features[inner])
    return same_features and np.array_equal(float32_not_above(tree.threshold[numbers][inner]), values[inner])
