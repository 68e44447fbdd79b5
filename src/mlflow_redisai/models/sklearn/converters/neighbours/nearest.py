"""
The nearest neighbours, by any metric and weighted or not, in float64.

Which of several rows at one distance scikit-learn counts as the nearest depends on its search tree. A graph takes the
first. So trials decide whether a model has such rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, labels, nodes_of, numbers, put, row_max
from mlflow_redisai.models.sklearn.converters.neighbours.distances import Distances, distances
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
        give_classes(nodes, operator, _sums(nodes, places, weights, one_hot(estimator)))
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
    sums = _sums(nodes, places, weights, targets(operator.raw_operator))
    divisor = number(nodes, operator.raw_operator.n_neighbors)
    if weights:
        divisor = row_sums(nodes, weights, 1)
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
        values = nodes.add("Add", nodes.add("Mul", nodes.cast(places, np.float64), number(nodes, 0)), number(nodes, 1))
    empty = nodes.add("ConstantOfShape", nodes.add("Shape", found.reduced), value=_zero())
    answer = nodes.add("ScatterElements", empty, places, values, axis=1)
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


def _zero() -> Any:
    import onnx

    return onnx.numpy_helper.from_array(np.array([0.0]), "zero")


def number(nodes: Nodes, value: float) -> str:
    return nodes.constant(np.float64(value))


def row_sums(nodes: Nodes, name: str, keepdims: int = 1) -> str:
    return nodes.add("ReduceSum", name, nodes.constant(np.array([1])), keepdims=keepdims)


def one_hot(estimator: Any) -> Array:
    rows: Array = np.eye(len(estimator.classes_))[estimator._y]
    return rows


def targets(estimator: Any) -> Array:
    return np.asarray(estimator._y, np.float64).reshape(len(estimator._y), -1)


# -- the nearest ----------------------------------------------------------------------------------


def _nearest(nodes: Nodes, operator: Any) -> tuple[str, str]:
    """Return the names of the places of the nearest rows, the nearest first, and of their weights, "" for none."""
    estimator = operator.raw_operator
    found = distances(nodes, estimator, numbers(nodes, operator))
    reduced, places = _top(nodes, found, estimator.n_neighbors)
    return places, inverse(nodes, found.full(reduced)) if estimator.weights == "distance" else ""


def _top(nodes: Nodes, found: Distances, count: int) -> tuple[str, str]:
    import onnx

    stem = f"{nodes.prefix}nearest_{len(nodes.nodes)}"
    wanted = nodes.constant(np.array([count]))
    outputs = [f"{stem}_distances", f"{stem}_places"]
    nodes.nodes.append(onnx.helper.make_node("TopK", [found.reduced, wanted], outputs, axis=1, largest=0, sorted=1))
    return outputs[0], outputs[1]


def inverse(nodes: Nodes, full: str) -> str:
    """Return the name of one by the distance. Where a row is a training row, only those at no distance count."""
    inverse = nodes.add("Div", number(nodes, 1), full)
    infinite = nodes.add("Equal", inverse, number(nodes, np.inf))
    same = nodes.cast(infinite, np.float64)
    any_same = nodes.add("Greater", row_max(nodes, same), number(nodes, 0))
    return nodes.add("Where", any_same, same, inverse)


def _sums(nodes: Nodes, places: str, weights: str, values: Array) -> str:
    """Return the name of the sums of what belongs to the nearest rows, times their weights if there are any."""
    own = nodes.add("Gather", nodes.constant(values), places, axis=0)
    if weights:
        own = nodes.add("Mul", own, nodes.add("Unsqueeze", weights, nodes.constant(np.array([2]))))
    return row_sums(nodes, own, 0)


def give_classes(nodes: Nodes, operator: Any, sums: str) -> None:
    label = labels(nodes, operator.raw_operator.classes_, nodes.add("ArgMax", sums, axis=1, keepdims=0))
    give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
    total = row_sums(nodes, sums)
    none = nodes.add("Equal", total, number(nodes, 0))
    shares = nodes.add("Div", sums, nodes.add("Where", none, number(nodes, 1), total))
    give(nodes, shares, operator.outputs[1].full_name, operator.outputs[1].type)
