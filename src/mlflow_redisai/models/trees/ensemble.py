"""
Gradient-boosted models of any library, and the ONNX nodes that compute the same.

Theory of operation. `xgboost`, `lightgbm` and `catboost` each read their library's own description of a model into a
`Boosted`: trees whose nodes compare exactly as that library does, and the function that is applied to their sums.
`write` turns it into nodes. A TreeEnsembleRegressor computes the sums, and a few operators turn these into predictions,
probabilities and labels.

Invariant: a number or gap (NaN) takes the same path through every tree as in the library. This holds for every number
of the type that the library itself compares: float32 in XGBoost and CatBoost, float64 in LightGBM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlflow_redisai.models.nodes import Nodes
from redisai_engine.codec.values import Array

if TYPE_CHECKING:
    pass

Mode = Literal["BRANCH_LT", "BRANCH_LEQ", "BRANCH_GT", "BRANCH_EQ"]

# The function applied to the sums.
Link = Literal[
    "identity", "sigmoid", "softmax", "exp", "softplus", "signed square", "argmax", "step", "mean and variance"
]

# The first version of ai.onnx.ml in which trees can store their numbers as float64.
_DOUBLE_TREES = 3

# What one of a library's nodes becomes: our nodes, and the library's nodes that follow for yes and no, or None.
Added = tuple[list[int], tuple[Any, Any] | None]


@dataclass
class Tree:
    """
    One tree. Each list has an entry per node, and node 0 is the root.

    `yes` and `no` are the nodes that follow, -1 in a leaf. `gap_is_yes` is whether a gap (NaN) follows yes. A leaf adds
    `leaves[node]`, one number for each of `targets`.
    """

    targets: tuple[int, ...]
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    mode: list[Mode] = field(default_factory=list)
    gap_is_yes: list[bool] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)
    leaves: dict[int, Sequence[float]] = field(default_factory=dict)

    def grow(self, root: Any, add: Callable[[Any], Added]) -> Tree:
        """Add the library's nodes from `root` down. `add` adds one of them, and returns what follows it."""
        # Nodes to add, each with our nodes that lead to it. No recursion: a tree may be deeper than Python's stack.
        pending: list[tuple[Any, list[int], list[int]]] = [(root, [], [])]
        while pending:
            node, yes_of, no_of = pending.pop()
            numbers, followers = add(node)
            for number in yes_of:
                self.yes[number] = numbers[0]
            for number in no_of:
                self.no[number] = numbers[0]
            if followers is not None:
                pending += [(followers[0], numbers, []), (followers[1], [], numbers[-1:])]
        return self

    def branch(self, feature: int, threshold: float, mode: Mode, *, gap_is_yes: bool) -> int:
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.mode.append(mode)
        self.gap_is_yes.append(gap_is_yes)
        self.yes.append(-1)
        self.no.append(-1)
        return len(self.feature) - 1

    def leaf(self, values: Sequence[float]) -> int:
        number = self.branch(0, 0.0, "BRANCH_LEQ", gap_is_yes=False)
        self.leaves[number] = values
        return number

    def any_of(self, feature: int, members: Sequence[int], *, gap_is_yes: bool) -> list[int]:
        """
        Add one comparison per member, each following the no of the previous one. Return their nodes.

        A single node for a set (BRANCH_MEMBER) exists only from ai.onnx.ml 5 on.
        """
        chain = [self.branch(feature, float(each), "BRANCH_EQ", gap_is_yes=gap_is_yes) for each in members]
        for one, following in pairwise(chain):
            self.no[one] = following
        return chain


def constant(value: float) -> Tree:
    """Return a tree of one leaf."""
    tree = Tree((0,))
    tree.leaf((value,))
    return tree


@dataclass(frozen=True)
class Boosted:
    """
    A boosted model. Its answer is `link`, applied to `slope` times the sum of `base` and what the trees say.

    A linear model has `weights`, one row per column, instead of `trees`. `names` are the columns' names in training, ()
    if it had none. `reads_float32`: numbers are rounded to float32 before they are compared. `sums_float64`: the values
    of the leaves are float64. `classes` are a classifier's labels, None if the answer is the number that `link` gives.
    `a_label_a_target`: each target is a yes-or-no question of its own. A score above `cut` means yes, or the second of
    two classes.

    By column, `categories` are the values that the codes 0, 1, ... stand for, and `codes` is the largest code if the
    rows hold codes themselves. Codes are rounded towards zero, numbers below `first_code` excepted. The number `gap`
    stands for a gap, as NaN does. Numbers whose magnitude is at most `zero` count as zero.
    """

    names: tuple[str, ...]
    columns: int
    trees: Sequence[Tree]
    base: Sequence[float]
    link: Link
    reads_float32: bool
    sums_float64: bool
    slope: float = 1.0
    classes: Array | None = None
    a_label_a_target: bool = False
    cut: float = 0.0
    weights: Array | None = None
    categories: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    codes: dict[int, int] = field(default_factory=dict)
    first_code: float = 0.0
    gap: float | None = None
    zero: float | None = None


def write(boosted: Boosted, nodes: Nodes, source: str, names: tuple[str, str], ml_opset: int) -> None:
    """
    Add the nodes that lead from the matrix `source` to the answer.

    `names` are the names of the outputs for labels and probabilities. A model without labels uses only the first, for
    its numbers. `ml_opset` is the version of ai.onnx.ml to write for.
    """
    first, second = names
    scores = _scores(boosted, nodes, source, ml_opset)
    if boosted.classes is None:
        _add_link(boosted, nodes, scores, first)
        return
    if boosted.a_label_a_target:
        nodes.cast(_above_cut(boosted, nodes, scores), np.int64, first)
        _add_link(boosted, nodes, scores, second)
        return
    _add_probabilities(boosted, nodes, scores, second)
    if len(boosted.base) == 1:
        above = nodes.cast(_above_cut(boosted, nodes, scores), np.int64)
        index = nodes.add("Reshape", above, nodes.constant(np.array([-1])))
    else:
        index = nodes.add("ArgMax", scores, axis=1, keepdims=0)
    nodes.add("Gather", nodes.constant(_plain_labels(boosted.classes)), index, name=first, axis=0)


def _above_cut(boosted: Boosted, nodes: Nodes, scores: str) -> str:
    """Comparing scores, not what the link makes of them, avoids the rounding of the link in ONNX Runtime."""
    return nodes.add("Greater", scores, nodes.constant(np.float32(boosted.cut)))


def _plain_labels(classes: Array) -> Array:
    """Return labels in a type that tensors have. The mapping says which type pyfunc returns them in."""
    labels = np.asarray(classes.tolist())
    return labels.astype(np.int64) if labels.dtype.kind in "iub" else labels


def _add_probabilities(boosted: Boosted, nodes: Nodes, scores: str, name: str) -> None:
    if len(boosted.base) > 1:
        _add_link(boosted, nodes, scores, name)
        return
    second = _add_link(boosted, nodes, scores, "")
    nodes.add("Concat", nodes.add("Sub", nodes.constant(np.float32(1)), second), second, name=name, axis=1)


def _add_link(boosted: Boosted, nodes: Nodes, scores: str, name: str) -> str:
    if boosted.slope != 1.0:
        scores = nodes.add("Mul", scores, nodes.constant(np.float32(boosted.slope)))
    match boosted.link:
        case "softmax":
            return nodes.add("Softmax", scores, name=name, axis=1)
        case "signed square":
            return nodes.add("Mul", scores, nodes.add("Abs", scores), name=name)
        case "argmax":
            return nodes.cast(nodes.add("ArgMax", scores, axis=1, keepdims=0), np.float32, name)
        case "mean and variance":
            mean, deviation = (nodes.add("Gather", scores, nodes.constant(np.array([each])), axis=1) for each in (0, 1))
            doubled = nodes.add("Mul", deviation, nodes.constant(np.float32(2)))
            return nodes.add("Concat", mean, nodes.add("Exp", doubled), name=name, axis=1)
        case "step":
            return nodes.cast(nodes.add("Greater", scores, nodes.constant(np.float32(0))), np.float32, name)
        case link:
            operators = {"identity": "Identity", "sigmoid": "Sigmoid", "exp": "Exp", "softplus": "Softplus"}
            return nodes.add(operators[link], scores, name=name)


# -- sums -----------------------------------------------------------------------------------------


def _scores(boosted: Boosted, nodes: Nodes, source: str, ml_opset: int) -> str:
    wide = (boosted.sums_float64 or not boosted.reads_float32) and ml_opset >= _DOUBLE_TREES
    # Float64 trees take float64 input. Where the library reads float32, the cast back and forth rounds as it does.
    if boosted.reads_float32 or not wide:
        source = nodes.cast(source, np.float32)
    number = np.float64 if wide else np.float32
    if wide:
        source = nodes.cast(source, np.float64)
    if boosted.gap is not None:
        is_gap = nodes.add("Equal", source, nodes.constant(number(boosted.gap)))
        source = nodes.add("Where", is_gap, nodes.constant(number(np.nan)), source)
    if boosted.zero is not None:
        is_other = nodes.add("Greater", nodes.add("Abs", source), nodes.constant(number(boosted.zero)))
        is_gap = nodes.add("IsNaN", source)
        source = nodes.add("Where", nodes.add("Or", is_other, is_gap), source, nodes.constant(number(0)))
    if boosted.codes:
        source = _round_codes(boosted, nodes, source, number)
    if boosted.weights is not None:
        return _add_linear(boosted, nodes, source, number)
    return nodes.add("TreeEnsembleRegressor", source, domain="ai.onnx.ml", **_attributes(boosted, number, nodes.prefix))


def _round_codes(boosted: Boosted, nodes: Nodes, source: str, number: type[np.floating[Any]]) -> str:
    """Round the columns of codes towards zero, as the libraries do when they look a category up."""
    import onnx

    # No code is larger, and a Cast of larger numbers to integers has no defined result.
    largest = 2.0**24
    columns = np.array([[index in boosted.codes for index in range(boosted.columns)]])
    below = np.nextafter(number(boosted.first_code), number(-np.inf))
    is_code = nodes.add("And", nodes.add("Greater", source, nodes.constant(below)), nodes.constant(columns))
    is_code = nodes.add("And", nodes.add("Less", source, nodes.constant(number(largest))), is_code)
    plain = nodes.add("Where", is_code, source, nodes.constant(number(0)))
    whole = nodes.cast(nodes.add("Cast", plain, to=onnx.TensorProto.INT64), number)
    return nodes.add("Where", is_code, whole, source)


def _add_linear(boosted: Boosted, nodes: Nodes, source: str, number: type[np.floating[Any]]) -> str:
    """Add the nodes of a linear model, in which a gap adds nothing to the sum."""
    filled = nodes.add("Where", nodes.add("IsNaN", source), nodes.constant(number(0)), source)
    product = nodes.add("MatMul", filled, nodes.constant(np.asarray(boosted.weights, number)))
    return nodes.add("Add", product, nodes.constant(np.asarray(boosted.base, number)))


def _attributes(boosted: Boosted, number: type[np.floating[Any]], prefix: str) -> dict[str, Any]:
    # ONNX has no ensemble without trees. A model may have none, for instance after training for no round.
    trees = boosted.trees or (constant(0.0),)
    leaves = [
        (tree_id, node, target, value)
        for tree_id, tree in enumerate(trees)
        for node, values in tree.leaves.items()
        for target, value in zip(tree.targets, values, strict=True)
    ]
    return {
        **_node_attributes(trees),
        "target_treeids": [leaf[0] for leaf in leaves],
        "target_nodeids": [leaf[1] for leaf in leaves],
        "target_ids": [leaf[2] for leaf in leaves],
        "n_targets": len(boosted.base),
        **_numbers("target_weights", np.array([leaf[3] for leaf in leaves]), number, prefix),
        **_numbers("nodes_values", _thresholds(trees, number), number, prefix),
        **_numbers("base_values", np.array(boosted.base), number, prefix),
    }


def _node_attributes(trees: Sequence[Tree]) -> dict[str, Any]:
    return {
        "nodes_treeids": [tree_id for tree_id, tree in enumerate(trees) for _ in tree.feature],
        "nodes_nodeids": [node for tree in trees for node in range(len(tree.feature))],
        "nodes_featureids": [feature for tree in trees for feature in tree.feature],
        "nodes_modes": [
            "LEAF" if node in tree.leaves else mode for tree in trees for node, mode in enumerate(tree.mode)
        ],
        # A leaf has no followers. 0 instead of -1 makes its fields valid node numbers.
        "nodes_truenodeids": [max(following, 0) for tree in trees for following in tree.yes],
        "nodes_falsenodeids": [max(following, 0) for tree in trees for following in tree.no],
        "nodes_missing_value_tracks_true": [int(way) for tree in trees for way in tree.gap_is_yes],
    }


def _thresholds(trees: Sequence[Tree], number: type[np.floating[Any]]) -> Array:
    """
    Return the thresholds of all nodes.

    As float32, a threshold that float32 can't hold is rounded down. Then the same float32 values are less than or equal
    to it as before.
    """
    exact = np.array([threshold for tree in trees for threshold in tree.threshold])
    return float32_not_above(exact) if number is np.float32 else exact


def float32_not_above(thresholds: Array) -> Array:
    """Return, for each float64 threshold, the largest float32 not above it; the shape stays."""
    nearest = thresholds.astype(np.float32)
    return np.where(nearest <= thresholds, nearest, np.nextafter(nearest, np.float32(-np.inf)))


def _numbers(name: str, values: Array, number: type[np.floating[Any]], prefix: str) -> dict[str, Any]:
    """Return an attribute with numbers: a list of float32, or a float64 tensor in the form that ai.onnx.ml 3 added."""
    import onnx

    if number is np.float32:
        return {name: values.astype(np.float32).tolist()}
    return {f"{name}_as_tensor": onnx.numpy_helper.from_array(values.astype(np.float64), f"{prefix}{name}")}
