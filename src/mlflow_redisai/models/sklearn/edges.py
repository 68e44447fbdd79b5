"""
The edges of a scikit-learn model, for trials: what its steps have learned, pushed back to the columns of the input.

A step deep in a pipeline has learned numbers of its own input. `Way` is how a step's columns lead back to the model's:
scalers are inverted, columns that are picked or filled stay what they are, and a column that is computed from several
has no way back. Whole rows go back through every step that has an inverse. `learned` reads one estimator.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlflow_redisai.models.sklearn.estimators import flat
from mlflow_redisai.models.sklearn.learned import learned, of_trees
from mlflow_redisai.models.trials.edges import NO_EDGES, Edges, columns_of, finite, merged, range_of
from redisai_engine.codec.mapping import Schema
from redisai_engine.codec.values import Array

# Steps whose columns are functions of one column each, with an inverse.
_SCALERS = (
    "StandardScaler",
    "MinMaxScaler",
    "MaxAbsScaler",
    "RobustScaler",
    "PowerTransformer",
    "QuantileTransformer",
)
_IMPUTERS = ("SimpleImputer", "KNNImputer", "IterativeImputer", "MissingIndicator")

# Where an estimator keeps those that it delegates to, each of which gets the same columns as itself.
_INNER = (
    "estimator_",
    "best_estimator_",
    "regressor_",
    "init_",
    "estimators_",
    "calibrated_classifiers_",
)

Back = Callable[[Array], Array]


@dataclass(frozen=True)
class Way:
    """
    How the columns at one step lead back to the model's input.

    For each column, the position of the input's column and a function that turns values back, or None if it has none.
    `rows` turns a matrix at this step into columns of the input, by position.
    """

    columns: tuple[tuple[int, Back] | None, ...]
    rows: Callable[[Array], Mapping[int, Array]]

    def picked(self, places: Any) -> Way:
        """Return the way of some of the columns, by their places."""
        chosen = [int(place) for place in places]
        columns = tuple(self.columns[place] if place < len(self.columns) else None for place in chosen)
        return Way(columns, lambda matrix: _back({each: matrix[:, j] for j, each in enumerate(columns) if each}))


def edges_of(estimator: Any, schema: Schema) -> Edges:
    """Return the edges of an estimator or pipeline, none for an input that is neither columns nor one matrix."""
    fields = columns_of(schema)
    if fields is None:
        return NO_EDGES
    names = [item.name for item in fields] if schema.named else []
    found: list[Edges] = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _walk(estimator, _start(estimator, names, len(fields)), found)
    return merged(found)


def _start(estimator: Any, names: list[str | None], count: int) -> Way:
    """Return the way of the model's own columns, in the order of the training."""
    trained = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    order = [names.index(name) for name in trained] if trained and set(trained) <= set(names) else range(count)
    columns = tuple((position, _same) for position in order)
    return Way(columns, lambda matrix: _back({each: matrix[:, j] for j, each in enumerate(columns)}))


def _same(values: Array) -> Array:
    return values


def _back(columns: Mapping[tuple[int, Back], Array]) -> dict[int, Array]:
    return {position: back(np.asarray(values)) for (position, back), values in columns.items()}


def _walk(step: Any, way: Way, found: list[Edges]) -> Way:
    """Add the edges of a step, and of all within it. Return the way of the columns that the step gives."""
    kind = type(step).__name__
    if kind == "Pipeline":
        for _, inner in step.steps:
            way = _walk(inner, way, found)
        return way
    if kind == "FeatureUnion":
        return _side_by_side([_walk(inner, way, found) for _, inner in step.transformer_list])
    if kind == "ColumnTransformer":
        return _walk_columns(step, way, found)
    # A step may be the text "passthrough" or "drop".
    if isinstance(step, str) or step is None:
        return way if step != "drop" else Way((), _no_rows)
    inside = list(_inside(step))
    # A forest is read at once: it may have a thousand trees.
    trees = [(inner.tree_, places) for inner, places in inside if hasattr(inner, "tree_")]
    if trees:
        found.append(placed(of_trees(trees), way))
    for inner, places in inside:
        if not hasattr(inner, "tree_"):
            _walk(inner, way if places is None else way.picked(places), found)
    # What can't be read or turned back is left out; other trials remain.
    with contextlib.suppress(Exception):
        found.append(placed(learned(step), way))
    try:
        return _after(step, kind, way)
    except Exception:
        return Way((), _no_rows)


def _walk_columns(step: Any, way: Way, found: list[Edges]) -> Way:
    places = step._transformer_to_input_indices
    ways = {name: _walk(inner, way.picked(places[name]), found) for name, inner, _ in step.transformers_}
    width = max((part.stop for part in step.output_indices_.values()), default=0)
    columns: list[tuple[int, Back] | None] = [None] * width
    parts = [(part, ways[name]) for name, part in step.output_indices_.items() if part.stop > part.start]
    for part, inner in parts:
        if len(inner.columns) == part.stop - part.start:
            columns[part] = inner.columns
    return Way(tuple(columns), _rows_of_parts(parts))


def _side_by_side(ways: list[Way]) -> Way:
    ends = np.cumsum([0, *(len(way.columns) for way in ways)])
    parts = [(slice(int(ends[i]), int(ends[i + 1])), way) for i, way in enumerate(ways)]
    return Way(tuple(column for way in ways for column in way.columns), _rows_of_parts(parts))


def _rows_of_parts(parts: list[tuple[slice, Way]]) -> Callable[[Array], dict[int, Array]]:
    def rows(matrix: Array) -> dict[int, Array]:
        found: dict[int, Array] = {}
        for part, way in parts:
            for position, values in way.rows(matrix[:, part]).items():
                found.setdefault(position, values)
        return found

    return rows


def _no_rows(matrix: Array) -> dict[int, Array]:
    del matrix
    return {}


def _inside(step: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the estimators that a step delegates to, each with the places of its columns, None for all of them."""
    names = ("estimator",) if type(step).__name__ == "_CalibratedClassifier" else _INNER
    for name in names:
        for index, one in enumerate(flat(getattr(step, name, None))):
            if hasattr(one, "get_params") or type(one).__name__ == "_CalibratedClassifier":
                yield one, _places(step, name, index)


def _places(step: Any, name: str, index: int) -> Any:
    """Return the columns that an inner estimator was given: some of them in bagging and in selection."""
    if name == "estimators_":
        picked = getattr(step, "estimators_features_", None)
        return None if picked is None else picked[index]
    support = getattr(step, "support_", None) if name == "estimator_" else None
    return np.flatnonzero(support) if isinstance(support, np.ndarray) and support.dtype == bool else None


# -- the columns that a step gives ----------------------------------------------------------------


def _after(step: Any, kind: str, way: Way) -> Way:
    if kind in _SCALERS:
        return _unscaled(step, way)
    if kind in _IMPUTERS[:3]:
        return _filled(step, way)
    if kind == "FunctionTransformer" and step.func is None:
        return way
    if hasattr(step, "get_support"):
        return way.picked(step.get_support(indices=True))
    if kind == "PolynomialFeatures":
        plain = [int(power.argmax()) if power.sum() == 1 else len(way.columns) for power in step.powers_]
        return way.picked(plain)
    return Way((None,) * _width(step), _inverted(step, way))


def _width(step: Any) -> int:
    try:
        return len(step.get_feature_names_out())
    except Exception:
        return 0


def _inverted(step: Any, way: Way) -> Callable[[Array], Mapping[int, Array]]:
    if not hasattr(step, "inverse_transform"):
        return _no_rows
    return lambda matrix: way.rows(np.asarray(step.inverse_transform(matrix)))


def _unscaled(step: Any, way: Way) -> Way:
    """Return the way through a scaler. A column is turned back along with others, for which it stands in itself."""
    width = len(way.columns)

    def back_of(place: int, before: Back) -> Back:
        def back(values: Array) -> Array:
            matrix = np.repeat(np.asarray(values, np.float64)[:, None], width, axis=1)
            return before(step.inverse_transform(matrix)[:, place])

        return back

    columns = tuple(
        None if each is None else (each[0], back_of(place, each[1])) for place, each in enumerate(way.columns)
    )
    return Way(columns, _inverted(step, way))


def _filled(step: Any, way: Way) -> Way:
    """Return the way through an imputer, which drops columns that were empty in training, and may add indicators."""
    learned_values = getattr(step, "statistics_", None)
    kept = list(range(len(way.columns)))
    if learned_values is not None and not getattr(step, "keep_empty_features", False):
        kept = [place for place, value in enumerate(learned_values) if value == value]  # noqa: PLR0124
    picked = way.picked(kept)
    added = _width(step) - len(picked.columns)
    return Way((*picked.columns, *(None,) * max(added, 0)), lambda matrix: picked.rows(matrix[:, : len(kept)]))


# -- edges of a step as edges of the input --------------------------------------------------------


def placed(edges: Edges, way: Way) -> Edges:
    """Return a step's edges as edges of the input. Those without a way back are left out."""
    cuts = {
        column[0]: finite(column[1](np.asarray(values, np.float64)))
        for place, values in edges.cuts.items()
        if len(values) and (column := _at(way, place)) is not None
    }
    ranges = {
        column[0]: _ordered(column[1](np.array(pair)))
        for place, pair in edges.ranges.items()
        if (column := _at(way, place)) is not None
    }
    return Edges(
        cuts,
        {column[0]: values for place, values in edges.categories.items() if (column := _at(way, place)) is not None},
        {position: pair for position, pair in ranges.items() if np.isfinite(pair).all()},
        {column[0]: words for place, words in edges.words.items() if (column := _at(way, place)) is not None},
        tuple(rows for each in edges.rows if (rows := _turned(way, _matrix(each)))),
    )


def _at(way: Way, place: int) -> tuple[int, Back] | None:
    return way.columns[place] if place < len(way.columns) else None


def _ordered(pair: Array) -> tuple[float, float]:
    low, high = sorted(float(value) for value in pair)
    return (low, high) if high > low else range_of(np.array([low]))


def _matrix(rows: Mapping[int, Array]) -> Array:
    return np.column_stack([rows[place] for place in sorted(rows)])


def _turned(way: Way, matrix: Array) -> Mapping[int, Array]:
    try:
        return way.rows(matrix)
    except Exception:
        return {}
