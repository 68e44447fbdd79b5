"""
Linear regressors and k-means: products with a matrix, in float64.

skl2onnx converts a regressor without intercept to float32 only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_redisai.models.sklearn.converters.writing import give, nodes_of, numbers, put


def convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "linear")
    estimator = operator.raw_operator
    dense = estimator.coef_.toarray() if hasattr(estimator.coef_, "toarray") else estimator.coef_
    weights = np.atleast_2d(np.asarray(dense, np.float64)).T.copy()
    product = nodes.add("MatMul", numbers(nodes, operator), nodes.constant(weights))
    answer = nodes.add("Add", product, nodes.constant(np.asarray(estimator.intercept_, np.float64)))
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
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
    scores = nodes.add("Sqrt", nodes.add("Max", distances, nodes.constant(np.float64(0))))
    for name, output in zip((label, scores), operator.outputs, strict=False):
        give(nodes, name, output.full_name, output.type)
    put(nodes, container)
