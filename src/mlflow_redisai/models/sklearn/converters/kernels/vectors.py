"""
Support vector machines in float64, where ONNX has them in float32 only.

The kernel is a matrix of rows by support vectors, and all pairs of classes are one product with it. Labels come from
the votes of the pairs, as in libsvm. Probabilities, which libsvm finds step by step, stay with ONNX's operator.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, labels, nodes_of, numbers, put
from redisai_engine.codec.values import Array

# The error of a kernel that products of numbers may cause, and with how many columns it is avoided.
_ROUNDING = 1e-12
_MOST_DIFFERENCES = 64

_FAR = 1e100


def _dense(values: Any) -> Array:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, np.float64)


def _kernel(nodes: Nodes, estimator: Any, rows: str) -> str:
    vectors = _dense(estimator.support_vectors_)
    if estimator.kernel == "rbf":
        distances = _distances(nodes, rows, vectors, estimator._gamma)
        return nodes.add("Exp", nodes.add("Mul", distances, _number(nodes, -estimator._gamma)))
    products = nodes.add("MatMul", rows, nodes.constant(vectors.T.copy()))
    if estimator.kernel == "linear":
        return products
    scaled = nodes.add("Mul", products, _number(nodes, estimator._gamma))
    shifted = nodes.add("Add", scaled, _number(nodes, estimator.coef0))
    if estimator.kernel == "sigmoid":
        return nodes.add("Tanh", shifted)
    return nodes.add("Pow", shifted, _number(nodes, estimator.degree))


def _distances(nodes: Nodes, rows: str, vectors: Array, gamma: float) -> str:
    """Return the name of the squared distances between rows and vectors, exact enough for their kernel."""
    centre = vectors.mean(axis=0)
    around = vectors - centre
    # Beyond any distance that the kernel tells from infinity, and small enough for no sum to overflow.
    limits = (_number(nodes, -_FAR), _number(nodes, _FAR))
    moved = nodes.add("Clip", nodes.add("Sub", rows, nodes.constant(centre)), *limits)
    rounding = gamma * float((around**2).sum(axis=1).max()) * float(np.finfo(np.float64).eps)
    if rounding > _ROUNDING and vectors.shape[1] <= _MOST_DIFFERENCES:
        return _summed_differences(nodes, moved, around)
    squares = nodes.add("ReduceSum", nodes.add("Mul", moved, moved), nodes.constant(np.array([1])), keepdims=1)
    products = nodes.add("MatMul", moved, nodes.constant(-2 * around.T))
    others = nodes.constant((around**2).sum(axis=1))
    return nodes.add("Add", nodes.add("Add", products, squares), others)


def _summed_differences(nodes: Nodes, rows: str, vectors: Array) -> str:
    """Add up squared differences column by column. Products of large numbers would lose the small distances."""
    total = ""
    for index in range(vectors.shape[1]):
        column = nodes.add("Gather", rows, nodes.constant(np.array([index])), axis=1)
        difference = nodes.add("Sub", column, nodes.constant(vectors[:, index].copy()))
        square = nodes.add("Mul", difference, difference)
        total = nodes.add("Add", total, square) if total else square
    return total


def _number(nodes: Nodes, value: float) -> str:
    return nodes.constant(np.float64(value))


def convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "vectors")
    answer = _decision(nodes, operator.raw_operator, numbers(nodes, operator))
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


def convert_one_class(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "vectors")
    scores = _decision(nodes, operator.raw_operator, numbers(nodes, operator))
    inside = nodes.cast(nodes.add("Greater", scores, _number(nodes, 0)), np.int64)
    twice = nodes.add("Mul", inside, nodes.constant(np.int64(2)))
    label = nodes.add("Sub", twice, nodes.constant(np.int64(1)))
    give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
    give(nodes, scores, operator.outputs[1].full_name, operator.outputs[1].type)
    put(nodes, container)


def _decision(nodes: Nodes, estimator: Any, rows: str) -> str:
    weights = _dense(estimator._dual_coef_).T.copy()
    product = nodes.add("MatMul", _kernel(nodes, estimator, rows), nodes.constant(weights))
    return nodes.add("Add", product, nodes.constant(np.asarray(estimator._intercept_, np.float64)))


# -- classes --------------------------------------------------------------------------------------


def classifier_converter(original: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """Return the converter of classifiers. `original` is skl2onnx's, which makes the probabilities if there are any."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        nodes = nodes_of(scope, "vectors")
        estimator = operator.raw_operator
        pairs = _pairs(len(estimator.classes_))
        scores = _scores_of_pairs(nodes, estimator, numbers(nodes, operator), pairs)
        votes = _votes(nodes, scores, pairs)
        decisive = votes
        if estimator.break_ties and estimator.decision_function_shape == "ovr" and len(estimator.classes_) > 2:
            decisive = _scores_of_classes(nodes, estimator, scores, votes, pairs, raw=True)
        label = labels(nodes, estimator.classes_, nodes.add("ArgMax", decisive, axis=1, keepdims=0))
        give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
        raw = container.get_options(estimator, {"raw_scores": False}).get("raw_scores")
        if len(estimator.probA_) and not raw:
            original(scope, _without_label(scope, operator), container)
        else:
            answer = _scores_of_classes(nodes, estimator, scores, votes, pairs, raw=bool(raw))
            give(nodes, answer, operator.outputs[1].full_name, operator.outputs[1].type)
        put(nodes, container)

    return convert


def _pairs(count: int) -> list[tuple[int, int]]:
    return [(first, second) for first in range(count) for second in range(first + 1, count)]


def _scores_of_pairs(nodes: Nodes, estimator: Any, rows: str, pairs: list[tuple[int, int]]) -> str:
    """Return the name of a score a pair. A positive one is a vote for the first class."""
    coefficients = _dense(estimator._dual_coef_)
    bounds = np.concatenate([[0], np.cumsum(estimator._n_support)])
    weights = np.zeros((coefficients.shape[1], len(pairs)))
    for column, (first, second) in enumerate(pairs):
        own, other = slice(*bounds[first : first + 2]), slice(*bounds[second : second + 2])
        weights[own, column] = coefficients[second - 1, own]
        weights[other, column] = coefficients[first, other]
    product = nodes.add("MatMul", _kernel(nodes, estimator, rows), nodes.constant(weights))
    return nodes.add("Add", product, nodes.constant(np.asarray(estimator._intercept_, np.float64)))


def _votes(nodes: Nodes, scores: str, pairs: list[tuple[int, int]]) -> str:
    above = nodes.cast(nodes.add("Greater", scores, _number(nodes, 0)), np.float64)
    first, second = _shares(pairs)
    lost = nodes.add("Sub", _number(nodes, 1), above)
    return nodes.add(
        "Add", nodes.add("MatMul", above, nodes.constant(first)), nodes.add("MatMul", lost, nodes.constant(second))
    )


def _shares(pairs: list[tuple[int, int]]) -> tuple[Array, Array]:
    """Return two matrices, pairs by classes: which class is the first of a pair, and which the second."""
    count = max(second for _, second in pairs) + 1
    eye = np.eye(count)
    return eye[[first for first, _ in pairs]], eye[[second for _, second in pairs]]


def _scores_of_classes(
    nodes: Nodes, estimator: Any, scores: str, votes: str, pairs: list[tuple[int, int]], *, raw: bool
) -> str:
    """Return the name of decision_function's answer, with two columns for two classes, as skl2onnx lays them out."""
    if len(pairs) == 1:
        negative = nodes.add("Neg", scores)
        return nodes.add("Concat", *((scores, negative) if raw else (negative, scores)), axis=1)
    if estimator.decision_function_shape == "ovo":
        return scores
    first, second = _shares(pairs)
    sums = nodes.add("MatMul", scores, nodes.constant(first - second))
    size = nodes.add("Add", nodes.add("Abs", sums), _number(nodes, 1))
    small = nodes.add("Div", sums, nodes.add("Mul", size, _number(nodes, 3)))
    return nodes.add("Add", votes, small)


def _without_label(scope: Any, operator: Any) -> Any:
    """Return a stand-in for the operator, whose label goes nowhere."""
    unused = SimpleNamespace(full_name=scope.get_unique_variable_name("unused_label"), type=operator.outputs[0].type)
    return SimpleNamespace(
        inputs=operator.inputs,
        input_full_names=operator.input_full_names,
        outputs=[unused, operator.outputs[1]],
        raw_operator=operator.raw_operator,
        type=operator.type,
    )
