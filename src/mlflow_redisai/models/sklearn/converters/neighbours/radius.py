"""
Neighbours within a radius, weighted or not, in float64.

All of them count, so the graph never has to choose one of several at the same distance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, labels, nodes_of, numbers, put
from mlflow_redisai.models.sklearn.converters.neighbours.distances import distances
from mlflow_redisai.models.sklearn.converters.neighbours.nearest import (
    give_classes,
    inverse,
    number,
    one_hot,
    row_sums,
    targets,
)


def convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "radius")
    estimator = operator.raw_operator
    weights = _within(nodes, operator)
    sums = nodes.add("MatMul", weights, nodes.constant(targets(estimator)))
    # Without a neighbour this is NaN, as in scikit-learn.
    answer = nodes.add("Div", sums, row_sums(nodes, weights))
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


def _within(nodes: Nodes, operator: Any) -> str:
    """Return the name of the weights of all training rows: zero beyond the radius."""
    estimator = operator.raw_operator
    found = distances(nodes, estimator, numbers(nodes, operator))
    inside = nodes.add("LessOrEqual", found.reduced, number(nodes, found.reduced_radius(estimator.radius)))
    if estimator.weights != "distance":
        return nodes.cast(inside, np.float64)
    far = nodes.add("Where", inside, found.full(found.reduced), number(nodes, np.inf))
    return inverse(nodes, far)


def convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "radius")
    estimator = operator.raw_operator
    if estimator.outputs_2d_:
        raise NotConvertible("neighbours within a radius can't be converted to ONNX for several targets")
    votes = nodes.add("MatMul", _within(nodes, operator), nodes.constant(one_hot(estimator)))
    found = np.flatnonzero(estimator.classes_ == estimator.outlier_label_[0])
    alone = nodes.add("Equal", row_sums(nodes, votes), number(nodes, 0))
    if len(found):
        stand_in = nodes.constant(np.eye(len(estimator.classes_))[found])
        give_classes(nodes, operator, nodes.add("Where", alone, stand_in, votes))
    else:
        _give_outliers(nodes, operator, votes, alone)
    put(nodes, container)


def _give_outliers(nodes: Nodes, operator: Any, votes: str, alone: str) -> None:
    """Give classes, and for a row without neighbours a label that is none of them, of no probability."""
    estimator = operator.raw_operator
    count = len(estimator.classes_)
    best = nodes.add("ArgMax", votes, axis=1, keepdims=0)
    flat = nodes.add("Reshape", alone, nodes.constant(np.array([-1])))
    place = nodes.add("Where", flat, nodes.constant(np.int64(count)), best)
    every = np.append(estimator.classes_, estimator.outlier_label_[0])
    give(nodes, labels(nodes, every, place), operator.outputs[0].full_name, operator.outputs[0].type)
    total = nodes.add("Where", alone, number(nodes, 1), row_sums(nodes, votes))
    give(nodes, nodes.add("Div", votes, total), operator.outputs[1].full_name, operator.outputs[1].type)
