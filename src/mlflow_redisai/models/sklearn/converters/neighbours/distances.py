"""
Distances from rows to a model's training rows, as scikit-learn's neighbours compute them: in float64, column by column.

A matrix product would be shorter, and would round otherwise, so that a row at the end of a radius counts or doesn't.
Like scikit-learn, what is compared is the reduced distance: a square instead of its root. `Distances.full` makes the
distance of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.nodes import Nodes
from redisai_engine.codec.values import Array


@dataclass(frozen=True)
class Distances:
    """The name of the reduced distances, a row for each row and a column for each training row."""

    nodes: Nodes
    reduced: str
    # The power of a distance that is its reduced one.
    power: float = 1.0

    def full(self, reduced: str) -> str:
        """Return the name of the distances for some of the reduced ones."""
        if self.power == 1:
            return reduced
        if self.power == 2:
            return self.nodes.add("Sqrt", reduced)
        return self.nodes.add("Pow", reduced, _number(self.nodes, 1 / self.power))

    def reduced_radius(self, radius: float) -> float:
        reduced: float = float(radius) ** self.power
        return reduced


def distances(nodes: Nodes, estimator: Any, rows: str) -> Distances:
    """Add the distances that an estimator of neighbours computes. Raise NotConvertible for an unknown metric."""
    metric, options = estimator.effective_metric_, estimator.effective_metric_params_
    known = estimator._fit_X
    if hasattr(known, "toarray") or options.get("w") is not None or metric not in METRICS:
        raise NotConvertible(f"distances by metric={metric!r} can't be converted to ONNX")
    training = np.asarray(known, np.float64)
    if metric == "minkowski":
        return _minkowski(nodes, rows, training, float(options["p"]))
    return METRICS[metric](nodes, rows, training, options)


def _number(nodes: Nodes, value: float) -> str:
    return nodes.constant(np.float64(value))


def _columns(nodes: Nodes, rows: str, training: Array) -> list[tuple[str, str]]:
    """Return, for each column, the names of it in the rows, as a column, and in the training rows, as a row."""
    return [
        (nodes.add("Gather", rows, nodes.constant(np.array([place])), axis=1), nodes.constant(training[None, :, place]))
        for place in range(training.shape[1])
    ]


def _summed(nodes: Nodes, parts: list[str]) -> str:
    return reduce(lambda total, part: nodes.add("Add", total, part), parts)


def _gaps(nodes: Nodes, rows: str, training: Array) -> list[str]:
    return [nodes.add("Sub", *pair) for pair in _columns(nodes, rows, training)]


def _sizes(nodes: Nodes, rows: str, training: Array) -> list[str]:
    return [nodes.add("Abs", gap) for gap in _gaps(nodes, rows, training)]


def _squares(nodes: Nodes, rows: str, training: Array) -> list[str]:
    return [nodes.add("Mul", gap, gap) for gap in _gaps(nodes, rows, training)]


def squared_distances(nodes: Nodes, rows: str, training: Array) -> str:
    """Return the name of the squares of Euclidean distances."""
    return _summed(nodes, _squares(nodes, rows, training))


# -- metrics of numbers ---------------------------------------------------------------------------

Metric = Callable[[Nodes, str, Array, dict[str, Any]], Distances]


def _euclidean(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    del options
    return Distances(nodes, squared_distances(nodes, rows, training), 2)


def _squared(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    del options
    return Distances(nodes, squared_distances(nodes, rows, training))


def _manhattan(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    del options
    return Distances(nodes, _summed(nodes, _sizes(nodes, rows, training)))


def _chebyshev(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    del options
    sizes = _sizes(nodes, rows, training)
    return Distances(nodes, nodes.add("Max", *sizes) if len(sizes) > 1 else sizes[0])


def _minkowski(nodes: Nodes, rows: str, training: Array, p: float) -> Distances:
    powers = [nodes.add("Pow", size, _number(nodes, p)) for size in _sizes(nodes, rows, training)]
    return Distances(nodes, _summed(nodes, powers), p)


def _standardized(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    variances = np.asarray(options["V"], np.float64)
    squares = _squares(nodes, rows, training)
    parts = [nodes.add("Div", square, _number(nodes, each)) for square, each in zip(squares, variances, strict=True)]
    return Distances(nodes, _summed(nodes, parts), 2)


def _canberra(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    del options
    parts = []
    for own, other in _columns(nodes, rows, training):
        sizes = nodes.add("Add", nodes.add("Abs", own), nodes.add("Abs", other))
        share = nodes.add("Div", nodes.add("Abs", nodes.add("Sub", own, other)), sizes)
        parts.append(nodes.add("Where", nodes.add("Greater", sizes, _number(nodes, 0)), share, _number(nodes, 0)))
    return Distances(nodes, _summed(nodes, parts))


def _bray_curtis(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    del options
    pairs = _columns(nodes, rows, training)
    above = _summed(nodes, [nodes.add("Abs", nodes.add("Sub", *pair)) for pair in pairs])
    sizes = [nodes.add("Add", *(nodes.add("Abs", each) for each in pair)) for pair in pairs]
    below = _summed(nodes, sizes)
    share = nodes.add("Div", above, below)
    return Distances(
        nodes, nodes.add("Where", nodes.add("Greater", below, _number(nodes, 0)), share, _number(nodes, 0))
    )


def _cosine(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    del options
    lengths = np.sqrt((training**2).sum(axis=1))
    units = training / np.where(lengths < 10 * np.finfo(np.float64).eps, 1, lengths)[:, None]
    own = nodes.add("ReduceSum", nodes.add("Mul", rows, rows), nodes.constant(np.array([1])), keepdims=1)
    own = nodes.add("Sqrt", own)
    small = nodes.add("Less", own, _number(nodes, 10 * np.finfo(np.float64).eps))
    unit = nodes.add("Div", rows, nodes.add("Where", small, _number(nodes, 1), own))
    likeness = nodes.add("MatMul", unit, nodes.constant(units.T.copy()))
    gap = nodes.add("Sub", _number(nodes, 1), likeness)
    return Distances(nodes, nodes.add("Min", nodes.add("Max", gap, _number(nodes, 0)), _number(nodes, 2)))


def _correlation(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    del options
    total = nodes.add("ReduceSum", rows, nodes.constant(np.array([1])), keepdims=1)
    mean = nodes.add("Div", total, _number(nodes, training.shape[1]))
    moved = nodes.add("Sub", rows, mean)
    around = training - training.mean(axis=1, keepdims=True)
    squares = nodes.add("ReduceSum", nodes.add("Mul", moved, moved), nodes.constant(np.array([1])), keepdims=1)
    lengths = np.sqrt((around**2).sum(axis=1))
    unit = nodes.add("Div", moved, nodes.add("Sqrt", squares))
    with np.errstate(all="ignore"):
        units = around / lengths[:, None]
    likeness = nodes.add("MatMul", unit, nodes.constant(units.T.copy()))
    return Distances(nodes, nodes.add("Sub", _number(nodes, 1), likeness))


def _nan_euclidean(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    """Leave out the columns in which either row has a gap, and make up for them by the number of columns."""
    del options
    squares, present = [], []
    for own, other in _columns(nodes, rows, training):
        gap = nodes.add("Sub", own, other)
        square = nodes.add("Mul", gap, gap)
        missing = nodes.add("IsNaN", square)
        squares.append(nodes.add("Where", missing, _number(nodes, 0), square))
        present.append(nodes.cast(nodes.add("Not", missing), np.float64))
    shared = nodes.add("Div", _summed(nodes, squares), _summed(nodes, present))
    return Distances(nodes, nodes.add("Sqrt", nodes.add("Mul", shared, _number(nodes, training.shape[1]))))


def _hamming(nodes: Nodes, rows: str, training: Array, options: dict[str, Any]) -> Distances:
    del options
    unequal = [
        nodes.cast(nodes.add("Not", nodes.add("Equal", *pair)), np.float64) for pair in _columns(nodes, rows, training)
    ]
    return Distances(nodes, nodes.add("Div", _summed(nodes, unequal), _number(nodes, training.shape[1])))


# -- metrics of truth values ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Counts:
    """The names of how many columns are true in both rows, in the first only, in either only, and in neither."""

    nodes: Nodes
    both: str
    first: str
    unequal: str
    neither: str
    columns: int

    def number(self, value: float) -> str:
        return _number(self.nodes, value)

    def share(self, above: str, below: str, otherwise: float) -> str:
        """Return the name of a quotient, or of a number where the divisor is zero."""
        none = self.nodes.add("Equal", below, self.number(0))
        return self.nodes.add("Where", none, self.number(otherwise), self.nodes.add("Div", above, below))

    def add(self, *names: str) -> str:
        return _summed(self.nodes, list(names))

    def times(self, name: str, factor: float) -> str:
        return self.nodes.add("Mul", name, self.number(factor))


def _jaccard(counts: _Counts) -> str:
    return counts.share(counts.unequal, counts.add(counts.both, counts.unequal), 0)


def _dice(counts: _Counts) -> str:
    return counts.share(counts.unequal, counts.add(counts.times(counts.both, 2), counts.unequal), 0)


def _rogers_tanimoto(counts: _Counts) -> str:
    twice = counts.times(counts.unequal, 2)
    return counts.share(twice, counts.add(counts.number(counts.columns), counts.unequal), 0)


def _russell_rao(counts: _Counts) -> str:
    others = counts.nodes.add("Sub", counts.number(counts.columns), counts.both)
    return counts.nodes.add("Div", others, counts.number(counts.columns))


def _sokal_sneath(counts: _Counts) -> str:
    half = counts.times(counts.both, 0.5)
    return counts.share(counts.unequal, counts.add(half, counts.unequal), 0)


def _yule(counts: _Counts) -> str:
    alike = counts.nodes.add("Mul", counts.both, counts.neither)
    crossed = counts.nodes.add("Mul", counts.first, counts.nodes.add("Sub", counts.unequal, counts.first))
    return counts.share(counts.times(crossed, 2), counts.add(alike, crossed), 0)


def _truths(formula: Callable[[_Counts], str], nodes: Nodes, rows: str, training: Array, options: Any) -> Distances:
    del options
    # A number that is not zero is true, also a NaN.
    own = nodes.cast(nodes.add("Not", nodes.add("Equal", rows, _number(nodes, 0))), np.float64)
    other = (training != 0).astype(np.float64)
    one, count = _number(nodes, 1), training.shape[1]
    both = nodes.add("MatMul", own, nodes.constant(other.T.copy()))
    neither = nodes.add("MatMul", nodes.add("Sub", one, own), nodes.constant(1 - other.T))
    unequal = nodes.add("Sub", _number(nodes, count), nodes.add("Add", both, neither))
    first = nodes.add("MatMul", own, nodes.constant(1 - other.T))
    return Distances(nodes, formula(_Counts(nodes, both, first, unequal, neither, count)))


#: The metrics that can be converted, by their names in scikit-learn. minkowski has a power, so it isn't a plain one.
METRICS: dict[str, Metric] = {
    "braycurtis": _bray_curtis,
    "canberra": _canberra,
    "chebyshev": _chebyshev,
    "cityblock": _manhattan,
    "correlation": _correlation,
    "cosine": _cosine,
    "dice": partial(_truths, _dice),
    "euclidean": _euclidean,
    "hamming": _hamming,
    "infinity": _chebyshev,
    "jaccard": partial(_truths, _jaccard),
    "l1": _manhattan,
    "l2": _euclidean,
    "manhattan": _manhattan,
    "minkowski": _euclidean,
    "nan_euclidean": _nan_euclidean,
    "p": _euclidean,
    "rogerstanimoto": partial(_truths, _rogers_tanimoto),
    "russellrao": partial(_truths, _russell_rao),
    "seuclidean": _standardized,
    "sokalmichener": partial(_truths, _rogers_tanimoto),
    "sokalsneath": partial(_truths, _sokal_sneath),
    "sqeuclidean": _squared,
    "yule": partial(_truths, _yule),
}
