"""
Linear regressors and classifiers, and k-means: products with a matrix, in float64.

skl2onnx converts a regressor without intercept, and a classifier's scores, to float32 only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, labels, nodes_of, numbers, put
from redisai_engine.codec.values import Array


def convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "linear")
    estimator = operator.raw_operator
    dense = estimator.coef_.toarray() if hasattr(estimator.coef_, "toarray") else estimator.coef_
    weights = np.atleast_2d(np.asarray(dense, np.float64)).T.copy()
    product = nodes.add("MatMul", numbers(nodes, operator), nodes.constant(weights))
    answer = nodes.add("Add", product, nodes.constant(np.asarray(estimator.intercept_, np.float64)))
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


def classifier_converter(original: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """Return the converter of classifiers that give scores. `original` is skl2onnx's, for those with probabilities."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        estimator = operator.raw_operator
        raw = container.get_options(estimator, {"raw_scores": False}).get("raw_scores")
        weights = np.atleast_2d(estimator.coef_)
        # A ridge classifier may have several targets.
        plain = len(weights) == (1 if len(estimator.classes_) == 2 else len(estimator.classes_))
        if type(estimator).__name__ == "LinearDiscriminantAnalysis" and plain and not raw:
            _give_discriminants(scope, operator, container)
            return
        if not plain or (hasattr(estimator, "predict_proba") and not raw):
            original(scope, operator, container)
            return
        nodes = nodes_of(scope, "linear")
        _give_scores(nodes, operator, np.asarray(weights, np.float64))
        put(nodes, container)

    return convert


def _give_scores(nodes: Nodes, operator: Any, weights: Array) -> None:
    """Give labels and scores, two columns for two classes, as skl2onnx lays them out."""
    estimator = operator.raw_operator
    scores = _scores(nodes, operator, weights)
    if len(weights) == 1:
        scores = nodes.add("Concat", nodes.add("Neg", scores), scores, axis=1)
    label = labels(nodes, estimator.classes_, nodes.add("ArgMax", scores, axis=1, keepdims=0))
    for name, output in zip((label, scores), operator.outputs, strict=False):
        give(nodes, name, output.full_name, output.type)


def _scores(nodes: Nodes, operator: Any, weights: Array) -> str:
    product = nodes.add("MatMul", numbers(nodes, operator), nodes.constant(weights.T.copy()))
    intercept = np.broadcast_to(np.asarray(operator.raw_operator.intercept_, np.float64), len(weights)).copy()
    return nodes.add("Add", product, nodes.constant(intercept))


def _give_discriminants(scope: Any, operator: Any, container: Any) -> None:
    """Give labels and probabilities: a sigmoid for two classes, which skl2onnx takes for a softmax of two scores."""
    nodes = nodes_of(scope, "discriminants")
    estimator = operator.raw_operator
    scores = _scores(nodes, operator, np.asarray(np.atleast_2d(estimator.coef_), np.float64))
    if len(estimator.classes_) == 2:
        one = nodes.constant(np.float64(1))
        second = nodes.add("Div", one, nodes.add("Add", nodes.add("Exp", nodes.add("Neg", scores)), one))
        probabilities = nodes.add("Concat", nodes.add("Sub", one, second), second, axis=1)
        # scikit-learn takes the second class for a positive score only.
        above = nodes.cast(nodes.add("Greater", scores, nodes.constant(np.float64(0))), np.int64)
        place = nodes.add("Reshape", above, nodes.constant(np.array([-1])))
    else:
        probabilities = nodes.add("Softmax", scores, axis=1)
        place = nodes.add("ArgMax", scores, axis=1, keepdims=0)
    answers = (labels(nodes, estimator.classes_, place), probabilities)
    for name, output in zip(answers, operator.outputs, strict=False):
        give(nodes, name, output.full_name, output.type)
    put(nodes, container)


def convert_clusters(scope: Any, operator: Any, container: Any) -> None:
    """Write k-means. skl2onnx takes the root of a negative rounding error for a row that is a centre."""
    nodes = nodes_of(scope, "clusters")
    centres = np.asarray(operator.raw_operator.cluster_centers_, np.float64)
    rows = numbers(nodes, operator)
    products = nodes.add("MatMul", rows, nodes.constant(-2 * centres.T))
    squares = nodes.constant((centres**2).sum(axis=1))
    label = nodes.add("ArgMin", nodes.add("Add", products, squares), axis=1, keepdims=0)
    own = nodes.add("ReduceSum", nodes.add("Mul", rows, rows), nodes.constant(np.array([1])), keepdims=1)
    distances = nodes.add("Add", nodes.add("Add", products, own), squares)
    zero = nodes.constant(np.float64(0))
    # A NaN, which overflowing sums leave, stays one.
    scores = nodes.add("Sqrt", nodes.add("Where", nodes.add("Less", distances, zero), zero, distances))
    for name, output in zip((label, scores), operator.outputs, strict=False):
        give(nodes, name, output.full_name, output.type)
    put(nodes, container)
