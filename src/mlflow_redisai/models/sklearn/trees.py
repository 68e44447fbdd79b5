"""
scikit-learn's trees in ONNX: the same path through each tree for every float32 and for every gap (NaN).

skl2onnx rounds thresholds to the nearest float32, and drops which way a gap goes. This module corrects the former
before the conversion and the latter after it. Trees of histogram gradient boosting compare float64; see `float64`.
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
    Return a copy whose trees have float32 thresholds, and send every float32 the same way as the original.

    A threshold is a float64, and scikit-learn rounds the number that it compares with it to float32. A threshold that
    is rounded to the nearest float32, as in ONNX, may let a larger number pass. Rounded down, it never does.
    """
    copied = copy.deepcopy(estimator)
    for inner in every_estimator(last_of(copied)):
        tree = getattr(inner, "tree_", None)
        if tree is not None:
            tree.threshold[:] = float32_not_above(tree.threshold)
    return copied


@contextlib.contextmanager
def plain_tree_attributes() -> Iterator[None]:
    """
    Make skl2onnx write trees with plain integers as attributes, inside the `with` block.

    For histogram gradient boosting it passes numpy's booleans and integers, which newer versions of onnx refuse.
    """
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
    """Write into the graph's trees, in place, the branch that scikit-learn takes for a gap. Each node has its own."""
    trees = [inner.tree_ for inner in every_estimator(estimator) if hasattr(inner, "tree_")]
    for node in proto.graph.node:
        # Histogram trees in float64 no longer have this attribute, and skl2onnx keeps their branches for gaps.
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
        # The node wasn't made from these trees, but by a boosting library, for instance.
        if tree is None:
            return
        numbers = np.array(attributes["nodes_nodeids"].ints)[places]
        ways[places] = np.where(tree.children_left == -1, 0, tree.missing_go_to_left)[numbers]
    kept = [attribute for attribute in node.attribute if attribute.name != "nodes_missing_value_tracks_true"]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.append(onnx.helper.make_attribute("nodes_missing_value_tracks_true", ways.tolist()))


def _take_tree(trees: list[Any], attributes: dict[str, Any], places: Array) -> Any:
    """Remove and return the tree that is written at `places`, usually the first of `trees`. Return None if none is."""
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
