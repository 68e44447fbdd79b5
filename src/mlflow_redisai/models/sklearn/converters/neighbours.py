"""
Neighbours: the nearest ones or those within a radius, by any metric and weighted or not, all in float64.

Which of several rows at one distance scikit-learn counts as the nearest depends on its search tree. A graph takes the
first. So trials decide whether a model has such rows; within a radius, all of them count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.sklearn.converters.distances import Distances, distances
from mlflow_redisai.models.sklearn.converters.writing import give, labels, nodes_of, numbers, put
from mlflow_redisai.models.trees.ensemble import Nodes
from redisai_engine.codec.values import Array

Converter = Callable[[Any, Any, Any], None]


def classifier_converter(original: Converter) -> Converter:
    """Return the converter of classifiers by the nearest. `original` is skl2onnx's, for several targets."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        estimator = operator.raw_operator
        if estimator.outputs_2d_:
            _refuse_new_options(estimator)
            original(scope, operator, container)
            return
        nodes = nodes_of(scope, "neighbours")
        places, weights = _nearest(nodes, operator)
        _give_classes(nodes, operator, _sums(nodes, places, weights, _one_hot(estimator)))
        put(nodes, container)

    return convert


def _refuse_new_options(estimator: Any) -> None:
    if estimator.weights not in (None, "uniform") or estimator.effective_metric_ not in ("euclidean", "manhattan"):
        raise NotConvertible(
            "several targets with weights or another metric than euclidean or manhattan can't be converted to ONNX; "
            "use an estimator for each target, for instance with MultiOutputClassifier"
        )


def convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "neighbours")
    places, weights = _nearest(nodes, operator)
    sums = _sums(nodes, places, weights, _targets(operator.raw_operator))
    divisor = _number(nodes, operator.raw_operator.n_neighbors)
    if weights:
        divisor = _sum(nodes, weights, 1)
    give(nodes, nodes.add("Div", sums, divisor), operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


def convert_transformer(scope: Any, operator: Any, container: Any) -> None:
    """Write the graph of neighbours: a column for each training row, zero for all but the nearest."""
    nodes = nodes_of(scope, "neighbours")
    estimator = operator.raw_operator
    found = distances(nodes, estimator, numbers(nodes, operator))
    # scikit-learn takes one more for distances, because a training row is its own neighbour.
    reduced, places = _top(nodes, found, estimator.n_neighbors + (estimator.mode == "distance"))
    values = found.full(reduced)
    if estimator.mode != "distance":
        values = nodes.add("Add", nodes.add("Mul", nodes.cast(places, np.float64), _number(nodes, 0)), _number(nodes, 1))
    empty = nodes.add("ConstantOfShape", nodes.add("Shape", found.reduced), value=_zero())
    answer = nodes.add("ScatterElements", empty, places, values, axis=1)
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


def _zero() -> Any:
    import onnx

    return onnx.numpy_helper.from_array(np.array([0.0]), "zero")


def _number(nodes: Nodes, value: float) -> str:
    return nodes.constant(np.float64(value))


def _sum(nodes: Nodes, name: str, keepdims: int = 1) -> str:
    return nodes.add("ReduceSum", name, nodes.constant(np.array([1])), keepdims=keepdims)


def _one_hot(estimator: Any) -> Array:
    return np.eye(len(estimator.classes_))[estimator._y]


def _targets(estimator: Any) -> Array:
    return np.asarray(estimator._y, np.float64).reshape(len(estimator._y), -1)


# -- the nearest ----------------------------------------------------------------------------------


def _nearest(nodes: Nodes, operator: Any) -> tuple[str, str]:
    """Return the names of the places of the nearest rows, the nearest first, and of their weights, "" for none."""
    estimator = operator.raw_operator
    found = distances(nodes, estimator, numbers(nodes, operator))
    reduced, places = _top(nodes, found, estimator.n_neighbors)
    return places, _weights(nodes, found.full(reduced)) if estimator.weights == "distance" else ""


def _top(nodes: Nodes, found: Distances, count: int) -> tuple[str, str]:
    import onnx

    stem = f"{nodes.prefix}nearest_{len(nodes.nodes)}"
    wanted = nodes.constant(np.array([count]))
    outputs = [f"{stem}_distances", f"{stem}_places"]
    nodes.nodes.append(onnx.helper.make_node("TopK", [found.reduced, wanted], outputs, axis=1, largest=0, sorted=1))
    return outputs[0], outputs[1]


def _weights(nodes: Nodes, full: str) -> str:
    """Return the name of one by the distance. Where a row is a training row, only those at no distance count."""
    inverse = nodes.add("Div", _number(nodes, 1), full)
    infinite = nodes.add("Equal", inverse, _number(nodes, np.inf))
    same = nodes.cast(infinite, np.float64)
    any_same = nodes.add("Greater", nodes.add("ReduceMax", same, axes=[1], keepdims=1), _number(nodes, 0))
    return nodes.add("Where", any_same, same, inverse)


def _sums(nodes: Nodes, places: str, weights: str, values: Array) -> str:
    """Return the name of the sums of what belongs to the nearest rows, times their weights if there are any."""
    own = nodes.add("Gather", nodes.constant(values), places, axis=0)
    if weights:
        own = nodes.add("Mul", own, nodes.add("Unsqueeze", weights, nodes.constant(np.array([2]))))
    return _sum(nodes, own, 0)


def _give_classes(nodes: Nodes, operator: Any, sums: str) -> None:
    label = labels(nodes, operator.raw_operator.classes_, nodes.add("ArgMax", sums, axis=1, keepdims=0))
    give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
    total = _sum(nodes, sums)
    none = nodes.add("Equal", total, _number(nodes, 0))
    shares = nodes.add("Div", sums, nodes.add("Where", none, _number(nodes, 1), total))
    give(nodes, shares, operator.outputs[1].full_name, operator.outputs[1].type)


# -- within a radius ------------------------------------------------------------------------------


def convert_radius_regressor(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "radius")
    estimator = operator.raw_operator
    weights = _within(nodes, operator)
    sums = nodes.add("MatMul", weights, nodes.constant(_targets(estimator)))
    # Without a neighbour this is NaN, as in scikit-learn.
    answer = nodes.add("Div", sums, _sum(nodes, weights))
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


def _within(nodes: Nodes, operator: Any) -> str:
    """Return the name of the weights of all training rows: zero beyond the radius."""
    estimator = operator.raw_operator
    found = distances(nodes, estimator, numbers(nodes, operator))
    inside = nodes.add("LessOrEqual", found.reduced, _number(nodes, found.reduced_radius(estimator.radius)))
    if estimator.weights != "distance":
        return nodes.cast(inside, np.float64)
    far = nodes.add("Where", inside, found.full(found.reduced), _number(nodes, np.inf))
    return _weights(nodes, far)


def convert_radius_classifier(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "radius")
    estimator = operator.raw_operator
    if estimator.outputs_2d_:
        raise NotConvertible("neighbours within a radius can't be converted to ONNX for several targets")
    votes = nodes.add("MatMul", _within(nodes, operator), nodes.constant(_one_hot(estimator)))
    found = np.flatnonzero(estimator.classes_ == estimator.outlier_label_[0])
    alone = nodes.add("Equal", _sum(nodes, votes), _number(nodes, 0))
    if len(found):
        stand_in = nodes.constant(np.eye(len(estimator.classes_))[found])
        _give_classes(nodes, operator, nodes.add("Where", alone, stand_in, votes))
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
    total = nodes.add("Where", alone, _number(nodes, 1), _sum(nodes, votes))
    give(nodes, nodes.add("Div", votes, total), operator.outputs[1].full_name, operator.outputs[1].type)
