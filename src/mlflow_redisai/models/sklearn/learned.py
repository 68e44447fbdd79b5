"""
What one fitted scikit-learn estimator has learned, as edges in the columns of its own input.

scikit-learn names what is learned by an underscore at the end, and alike in all estimators of a kind. So the table goes
by the attribute, not by the class: estimators that derive from a known one are known as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mlflow_redisai.models.sklearn.estimators import is_boosted
from mlflow_redisai.models.trees.convert import reader
from mlflow_redisai.models.trees.edges import edges_of as edges_of_boosted
from mlflow_redisai.models.trials.edges import Edges, cuts_with_ranges, finite, merged, range_of
from redisai_engine.codec.mapping import Schema
from redisai_engine.codec.values import Array

# How many training rows are looked at, and how many pairs of neighbours of different classes are taken from them.
_ROWS = 1000
_PAIRS = 200

# How far from one of them to the other.
_ABOUT_HALF = 0.5001


def learned(estimator: Any) -> Edges:
    """Return what an estimator itself has learned, without the estimators that it delegates to."""
    if is_boosted(estimator):
        return edges_of_boosted(reader(type(estimator).__module__.partition(".")[0])(estimator, Schema("columns", ())))
    return merged(read(estimator) for attribute, read in _READERS.items() if hasattr(estimator, attribute))


def _columns(matrix: Any) -> dict[int, Array]:
    """Return a matrix, or a list of columns of unequal length, as columns by place."""
    columns = np.asarray(matrix).T if isinstance(matrix, np.ndarray) and matrix.ndim == 2 else matrix
    return {place: np.asarray(values) for place, values in enumerate(columns)}


# -- thresholds -----------------------------------------------------------------------------------


def _tree(estimator: Any) -> Edges:
    return of_trees([(estimator.tree_, None)])


def of_trees(trees: Sequence[tuple[Any, Any]]) -> Edges:
    """Return the thresholds of trees. With each tree come the places of the columns that it was given, None for all."""
    columns, thresholds = [], []
    for tree, places in trees:
        inner = tree.children_left != -1
        feature = tree.feature[inner]
        columns.append(feature if places is None else np.asarray(places)[feature])
        thresholds.append(tree.threshold[inner])
    return cuts_with_ranges(_by_column(np.concatenate(columns), np.concatenate(thresholds)))


def _by_column(columns: Array, numbers: Array) -> dict[int, Array]:
    order = np.argsort(columns, kind="stable")
    places, starts = np.unique(columns[order], return_index=True)
    return dict(zip(places.tolist(), np.split(numbers[order], starts[1:]), strict=True)) if len(places) else {}


def _histogram_trees(estimator: Any) -> Edges:
    """Return the thresholds of histogram trees, whose columns of categories come before those of numbers."""
    order = np.arange(estimator.n_features_in_)
    is_category = estimator.is_categorical_
    if is_category is not None and estimator._preprocessor is not None:
        order = np.concatenate([np.flatnonzero(is_category), np.flatnonzero(~np.asarray(is_category))])
    nodes = np.concatenate([each.nodes for stage in estimator._predictors for each in stage])
    inner = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]
    cuts = _by_column(order[inner["feature_idx"].astype(int)], inner["num_threshold"])
    return merged([cuts_with_ranges(cuts), _codes(estimator)])


def _codes(estimator: Any) -> Edges:
    encoder = getattr(estimator._preprocessor, "named_transformers_", {}).get("encoder")
    if encoder is None or estimator.is_categorical_ is None:
        return Edges()
    places = np.flatnonzero(estimator.is_categorical_).tolist()
    return Edges(
        categories={place: known_categories(values) for place, values in zip(places, encoder.categories_, strict=False)}
    )


def _bins(estimator: Any) -> Edges:
    return cuts_with_ranges(_columns(list(estimator.bin_edges_)))


def _threshold(estimator: Any) -> Edges:
    if type(estimator).__name__ != "Binarizer":
        return Edges()
    return Edges(cuts={place: np.array([float(estimator.threshold)]) for place in range(estimator.n_features_in_)})


def _binarized(estimator: Any) -> Edges:
    if estimator.binarize is None:
        return Edges()
    cuts = {place: np.array([float(estimator.binarize)]) for place in range(estimator.n_features_in_)}
    return Edges(cuts=cuts, ranges={place: (cut[0] - 2, cut[0] + 2) for place, cut in cuts.items()})


def _quantiles(estimator: Any) -> Edges:
    return cuts_with_ranges(_columns(estimator.quantiles_))


def _splines(estimator: Any) -> Edges:
    knots = [np.asarray(spline.t) for spline in estimator.bsplines_]
    degree = int(estimator.degree)
    inner = {place: values[degree : len(values) - degree] for place, values in enumerate(knots)}
    # Beyond the first and the last knot, a spline is extrapolated.
    return merged([cuts_with_ranges(inner), Edges(ranges={place: range_of(values) for place, values in inner.items()})])


def _powers(estimator: Any) -> Edges:
    """Return the numbers at which a power has another formula, or none."""
    return Edges(cuts={place: np.array([0.0, -1.0, 1.0]) for place in range(len(estimator.lambdas_))})


def _isotonic(estimator: Any) -> Edges:
    return cuts_with_ranges({0: np.asarray(estimator.X_thresholds_)})


# -- ranges ---------------------------------------------------------------------------------------


def _moments(estimator: Any) -> Edges:
    """Return four standard deviations around the mean of each column."""
    deviations = getattr(estimator, "scale_", None)
    means = np.ravel(estimator.mean_) if estimator.mean_ is not None else None
    if means is None or deviations is None or np.shape(deviations) != means.shape:
        return Edges()
    return Edges(ranges={place: (mean - 4 * d, mean + 4 * d) for place, (mean, d) in _pairs(means, deviations)})


def _bounds(estimator: Any) -> Edges:
    lows, highs = np.ravel(estimator.data_min_), np.ravel(estimator.data_max_)
    cuts = {place: np.array(pair) for place, pair in _pairs(lows, highs)}
    # Where a scaler clips, its smallest and largest are edges.
    return cuts_with_ranges(cuts)


def _largest(estimator: Any) -> Edges:
    return Edges(ranges={place: (-high, high) for place, high in enumerate(np.ravel(estimator.max_abs_).tolist())})


def _quartiles(estimator: Any) -> Edges:
    if estimator.center_ is None or getattr(estimator, "scale_", None) is None:
        return Edges()
    pairs = _pairs(np.ravel(estimator.center_), np.ravel(estimator.scale_))
    return Edges(ranges={place: (middle - 3 * width, middle + 3 * width) for place, (middle, width) in pairs})


def _by_class(estimator: Any) -> Edges:
    """Return four standard deviations around the means of the classes."""
    means, deviations = np.asarray(estimator.theta_), np.sqrt(estimator.var_)
    lows, highs = (means - 4 * deviations).min(axis=0), (means + 4 * deviations).max(axis=0)
    return Edges(ranges=dict(_pairs(lows, highs)))


def _fill(estimator: Any) -> Edges:
    """Return what an imputer fills in, and the number that it takes for a gap."""
    filled = np.asarray(estimator.statistics_)
    if filled.dtype.kind not in "fiu":
        return Edges()
    gap = estimator.missing_values
    gaps = [float(gap)] if isinstance(gap, (int, float)) and gap == gap else []  # noqa: PLR0124
    return Edges(cuts={place: finite([value, *gaps]) for place, value in enumerate(filled.tolist())})


def _pairs(lows: Any, highs: Any) -> list[tuple[int, tuple[float, float]]]:
    values = zip(np.ravel(lows).tolist(), np.ravel(highs).tolist(), strict=True)
    return [(place, pair) for place, pair in enumerate(values) if np.isfinite(pair).all()]


# -- whole rows -----------------------------------------------------------------------------------


def _neighbours(estimator: Any) -> Edges:
    """Return rows of the training, each also beside its neighbour, and rows far away, which have no neighbours."""
    rows = _dense(estimator._fit_X)
    labels = np.asarray(getattr(estimator, "_y", np.zeros(len(rows))))
    chosen = _evenly(len(rows), _ROWS)
    return merged(
        [_whole(rows[chosen]), _whole(_between(rows[chosen], labels[chosen])), _whole(_far(rows)), _spans(rows)]
    )


def _between(rows: Array, labels: Array) -> Array:
    """
    Return rows about in the middle between a row and the nearest one with another label, or else the nearest one.

    Right in the middle, rounding would decide which is nearer, in the model itself too.
    """
    plain = labels.reshape(len(rows), -1)[:, 0]
    found = []
    for index in _evenly(len(rows), _PAIRS).tolist():
        distances = np.square(rows - rows[index]).sum(axis=1)
        others = np.flatnonzero((plain != plain[index]) if (plain != plain[index]).any() else distances > 0)
        if len(others):
            other = rows[others[distances[others].argmin()]]
            found.append(rows[index] + (other - rows[index]) * _ABOUT_HALF)
    return np.array(found).reshape(-1, rows.shape[1])


def _far(rows: Array) -> Array:
    spread = np.maximum(np.ptp(rows, axis=0), 1e-3)
    return np.array([rows[0] + 100 * spread, rows[0] - 100 * spread, rows[0] + 1.5 * spread])


def _supports(estimator: Any) -> Edges:
    rows = _dense(estimator.support_vectors_)
    return merged([_whole(rows[_evenly(len(rows), _ROWS)]), _spans(rows)]) if len(rows) else Edges()


def _rows_of(attribute: str) -> Callable[[Any], Edges]:
    def read(estimator: Any) -> Edges:
        rows = _dense(getattr(estimator, attribute))
        return merged([_whole(rows[_evenly(len(rows), _ROWS)]), _spans(rows)])

    return read


def _centroids(estimator: Any) -> Edges:
    rows = _dense(estimator.centroids_)
    return merged([_whole(rows), _whole(_between(rows, np.arange(len(rows)))), _spans(rows)])


def _dense(rows: Any) -> Array:
    return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, np.float64)


def _evenly(count: int, most: int) -> Array:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _whole(rows: Array) -> Edges:
    return Edges(rows=(_columns(rows),)) if len(rows) else Edges()


def _spans(rows: Array) -> Edges:
    return Edges(ranges={place: range_of(rows[:, place]) for place in range(rows.shape[1])})


# -- words and categories -------------------------------------------------------------------------


def _categories(estimator: Any) -> Edges:
    return Edges(categories={place: known_categories(values) for place, values in enumerate(estimator.categories_)})


def known_categories(values: Any) -> Array:
    """Return the categories without None and NaN, which some encoders count as a category."""
    array = np.asarray(values)
    kept = [value for value in array.tolist() if value is not None and value == value]  # noqa: PLR0124
    return np.array(kept, array.dtype)


def _words(estimator: Any) -> Edges:
    vocabulary: dict[Any, Any] | Any = estimator.vocabulary_
    return Edges(words={0: tuple(_some(sorted(map(str, vocabulary))))}) if vocabulary else Edges()


def _some(words: list[str]) -> Iterator[str]:
    return (words[index] for index in _evenly(len(words), _ROWS))


def _counted_categories(estimator: Any) -> Edges:
    return Edges(categories={place: np.arange(count) for place, count in enumerate(estimator.n_categories_.tolist())})


_READERS: dict[str, Callable[[Any], Edges]] = {
    "tree_": _tree,
    "_predictors": _histogram_trees,
    "bin_edges_": _bins,
    "threshold": _threshold,
    "binarize": _binarized,
    "quantiles_": _quantiles,
    "bsplines_": _splines,
    "lambdas_": _powers,
    "X_thresholds_": _isotonic,
    "mean_": _moments,
    "data_min_": _bounds,
    "max_abs_": _largest,
    "center_": _quartiles,
    "theta_": _by_class,
    "statistics_": _fill,
    "_fit_X": _neighbours,
    "support_vectors_": _supports,
    "X_train_": _rows_of("X_train_"),
    "X_fit_": _rows_of("X_fit_"),
    "cluster_centers_": _rows_of("cluster_centers_"),
    "means_": _rows_of("means_"),
    "centroids_": _centroids,
    "categories_": _categories,
    "n_categories_": _counted_categories,
    "vocabulary_": _words,
}
