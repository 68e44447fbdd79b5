"""
Rows for trials, made of what the model has learned (`edges`), in a few batches.

- Rows drawn over the range that the model has learned, and some of them again.
- Rows with every column on an edge, and ordinary rows with some columns on one.
- Whole rows: those of the training that the model keeps, and rows of one number in every column, such as 0.
- Ordinary rows with a special value in a single column: a batch for each size, because a huge answer would hide the
  others, whose differences are relative to the largest.

Invariant: the same model gets the same rows every time, and never more than a few thousand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlflow_redisai.models.trials.edges import Edges, columns_of, known_values, strange_values
from mlflow_redisai.models.trials.probes import example_columns, unread, values_for
from redisai_engine.codec.mapping import Field, Schema
from redisai_engine.codec.values import Array
from redisai_engine.protocol import dtypes

_SEED = 20260102

# Rows of the largest batches; fewer for wide inputs, so that a batch stays below so many values.
_ROWS = 1000
_CELLS = 400_000

# Rows of each batch of special values.
_SPECIAL_ROWS = 100

# How many of the model's own rows are tried.
_OWN_ROWS = 400

# Numbers around zero. As float32, 1e-40 is subnormal, and as float64, 5e-324 is.
_SMALL = (0.0, -0.0, 1e-40, -1e-40, 5e-324, 1e-300, 1e-7, 0.1, -0.1, 0.5, 1.0, -1.0, 1.5)

# Numbers that stand in every column of a row.
_EVERYWHERE = (0, 1, 2, 100)

# Numbers of one size each. From 2**24 on, float32 can't hold every integer, and from 2**53 on, float64 can't.
_LARGE: tuple[tuple[float, ...], ...] = (
    (1e6, -1e6, 1234567.0),
    (2.0**24 - 1, 2.0**24, 2.0**24 + 1, -(2.0**24) - 1),
    (1e10, -1e10),
    (2.0**53 - 1, 2.0**53, 2.0**53 + 2, -(2.0**53) - 2),
    (1e20, -1e20),
    (1e30, -1e30),
    (3e38, -3e38),
    (1e300, -1e300),
    (np.inf, -np.inf),
)
_SPECIAL_WHOLE = (
    (0, 1, -1),
    (2**24 - 1, 2**24, 2**24 + 1, -(2**24) - 1),
    (2**31 - 1, -(2**31)),
    (2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1),
)

# Numbers this much larger than what the model has learned are huge: no model is meant for them.
_HUGE = 1000

Columns = list[Array]


@dataclass(frozen=True)
class Huge:
    """
    Rows that have a single number each far beyond what the model has learned, of about the magnitude `size`.

    There, rounding decides, and two correct libraries may differ. `below` is the next smaller magnitude that is tried,
    None for infinity. `whole` numbers are in columns of integers, others in those of floating point.
    """

    rows: Any
    size: float
    below: float | None
    whole: bool = False


@dataclass(frozen=True)
class _Maker:
    """What rows are made of. `known` are the example's values, by column."""

    schema: Schema
    edges: Edges
    fields: tuple[Field, ...]
    known: Sequence[Array | None]
    text: type

    def ordinary(self, random: np.random.Generator, count: int) -> Columns:
        return [self._ordinary(random, index, item, count) for index, item in enumerate(self.fields)]

    def _ordinary(self, random: np.random.Generator, index: int, item: Field, count: int) -> Array:
        learned = None if item.dtype.is_string else self.edges.ranges.get(index)
        categories = self.edges.categories.get(index)
        if learned is not None and categories is None and item.dtype is not dtypes.BOOL:
            return _over(random, learned, item, count)
        words = self.edges.words.get(index)
        if words and categories is None and item.dtype.is_string:
            return _sentences(random, words, count)
        return values_for(random, item, self.known[index], categories, count)

    def input_of(self, columns: Columns) -> Any:
        """Return columns in the form that pyfunc takes."""
        columns = [
            values if item.used else unread(item, self.known[index], len(values))
            for index, (item, values) in enumerate(zip(self.fields, columns, strict=True))
        ]
        if self.schema.kind == "tensors":
            return np.column_stack(columns).astype(self.text) if self.text is str else np.column_stack(columns)
        import pandas as pd

        names = [item.label if item.label is not None else index for index, item in enumerate(self.fields)]
        return pd.DataFrame(dict(zip(names, columns, strict=True)))


def batches(schema: Schema, example: Any, edges: Edges) -> Iterator[Any]:
    """
    Yield inputs for trials, and in the end some that are `Huge`, in order of their size.

    There are none for inputs that are neither columns nor one matrix of any length.
    """
    fields = columns_of(schema)
    if fields is None:
        return
    is_text = isinstance(example, np.ndarray) and example.dtype.kind == "U"
    maker = _Maker(schema, edges, fields, example_columns(schema, example), str if is_text else object)
    random = np.random.default_rng(_SEED)
    count = max(16, min(_ROWS, _CELLS // len(fields)))
    for columns in itertools.chain(
        [_draws(maker, random, count)],
        _on_edges(maker, random, count),
        _own_rows(maker, random),
        _alike(maker, random),
        _strange(maker, random),
        _small(maker, random),
    ):
        yield maker.input_of(columns)
    yield from _large_whole(maker, random)
    yield from _large(maker, random)


def _draws(maker: _Maker, random: np.random.Generator, count: int) -> Columns:
    again = [0, 0, count // 2]
    return [np.concatenate([values, values[again]]) for values in maker.ordinary(random, count)]


def _on_edges(maker: _Maker, random: np.random.Generator, count: int) -> Iterator[Columns]:
    """Yield rows with every column on an edge, and rows with about a quarter of the columns on one."""
    edges = [known_values(maker.edges, index, item) for index, item in enumerate(maker.fields)]
    if not any(len(values) for values in edges):
        return
    ordinary = maker.ordinary(random, count)
    everywhere = [_each(random, values, count) if len(values) else ordinary[i] for i, values in enumerate(edges)]
    yield everywhere
    yield [np.where(random.random(count) < 0.25, on, off) for on, off in zip(everywhere, ordinary, strict=True)]


def _each(random: np.random.Generator, values: Array, count: int) -> Array:
    """Return `count` of the values in random order, each of them at least once if they aren't more."""
    chosen = np.resize(random.permutation(len(values)), count)
    return np.asarray(values[random.permutation(chosen)])


def _own_rows(maker: _Maker, random: np.random.Generator) -> Iterator[Columns]:
    for rows in maker.edges.rows:
        count = min((len(values) for values in rows.values()), default=0)
        if not count:
            continue
        chosen = np.arange(count) if count <= _OWN_ROWS else np.sort(random.permutation(count)[:_OWN_ROWS])
        columns = maker.ordinary(random, len(chosen))
        for index, values in rows.items():
            columns[index] = _as_column(np.asarray(values)[chosen], maker.fields[index], columns[index])
        yield columns


def _as_column(values: Array, item: Field, otherwise: Array) -> Array:
    try:
        if values.dtype.kind == "f" and item.dtype.numpy.kind in "iu":
            values = np.rint(values)
        with np.errstate(all="ignore"):
            return values.astype(item.dtype.numpy)
    except (TypeError, ValueError):
        return otherwise


def _alike(maker: _Maker, random: np.random.Generator) -> Iterator[Columns]:
    """
    Yield rows with the same number in every column: a row of zeros has no length, and one of ones no deviation.

    Ordinary rows are among them, because answers to the others may be nothing but rounding.
    """
    columns = maker.ordinary(random, 4 * len(_EVERYWHERE))
    for values, item in zip(columns, maker.fields, strict=True):
        if item.dtype.numpy.kind in "iuf":
            values[: len(_EVERYWHERE)] = _EVERYWHERE
    yield columns


# -- one column at a time -------------------------------------------------------------------------


def _strange(maker: _Maker, random: np.random.Generator) -> Iterator[Columns]:
    """Yield ordinary rows with one category that the model doesn't know."""
    places = [
        (index, value)
        for index, item in enumerate(maker.fields)
        for value in strange_values(maker.edges, index, item, maker.known[index])
    ]
    yield from _with_one(maker, random, places, 4 * _SPECIAL_ROWS)


def _small(maker: _Maker, random: np.random.Generator) -> Iterator[Columns]:
    """Yield ordinary rows with a number around zero."""
    floats = [index for index, item in enumerate(maker.fields) if item.dtype.is_float]
    yield from _with_one(maker, random, list(itertools.product(floats, _SMALL)), _SPECIAL_ROWS)


def _large_whole(maker: _Maker, random: np.random.Generator) -> Iterator[Any]:
    """Yield ordinary rows with one whole number each, a batch for each size."""
    learned = _largest_learned(maker, random, whole=True)
    below = None
    for values in _SPECIAL_WHOLE:
        size = float(max(map(abs, values)))
        for columns in _with_one(maker, random, list(_whole(maker.fields, values)), _SPECIAL_ROWS):
            rows = maker.input_of(columns)
            is_huge = below is not None and below >= _HUGE * learned
            yield Huge(rows, size, below, whole=True) if is_huge else rows
        below = size


def _large(maker: _Maker, random: np.random.Generator) -> Iterator[Any]:
    """Yield ordinary rows with one large number each, a batch for each size."""
    learned = _largest_learned(maker, random)
    below = None
    for values in _LARGE:
        size = float(np.abs(values).max())
        may = [index for index, item in enumerate(maker.fields) if _may_have(item, size)]
        for columns in _with_one(maker, random, list(itertools.product(may, values)), _SPECIAL_ROWS):
            rows = maker.input_of(columns)
            is_huge = below is not None and below >= _HUGE * learned
            yield Huge(rows, size, below if np.isfinite(size) else None) if is_huge else rows
        below = size


def _largest_learned(maker: _Maker, random: np.random.Generator, *, whole: bool = False) -> float:
    """Return the largest ordinary number of any column of floating point, or of integers; 1 if there are none."""
    columns = zip(maker.ordinary(random, _SPECIAL_ROWS), maker.fields, strict=True)
    kinds = "iu" if whole else "f"
    numbers = [
        np.abs(values[np.isfinite(values)].astype(np.float64))
        for values, item in columns
        if item.dtype.numpy.kind in kinds
    ]
    return max((float(values.max()) for values in numbers if len(values)), default=1.0)


def _may_have(item: Field, value: float) -> bool:
    """Return whether a column may have a number of this size. What a field refuses, the reference isn't asked for."""
    if not item.dtype.is_float:
        return False
    if np.isinf(value):
        return item.infinite
    return value <= (item.largest or np.inf) and value < float(np.finfo(item.dtype.numpy).max)


def _whole(fields: Sequence[Field], values: Sequence[int]) -> Iterator[tuple[int, int]]:
    for index, item in enumerate(fields):
        if item.dtype.numpy.kind in "iu":
            limits = np.iinfo(item.dtype.numpy)
            yield from ((index, value) for value in values if limits.min <= value <= limits.max)


def _with_one(
    maker: _Maker, random: np.random.Generator, places: list[tuple[int, Any]], most: int
) -> Iterator[Columns]:
    """Yield ordinary rows, each with a value in the column that `places` names; `most` of them if there are more."""
    places = [(index, value) for index, value in places if maker.fields[index].used]
    if not places:
        return
    if len(places) > most:
        places = [places[index] for index in np.sort(random.permutation(len(places))[:most])]
    columns = maker.ordinary(random, len(places))
    for row, (index, value) in enumerate(places):
        columns[index][row] = value
    yield columns


# -- ordinary values ------------------------------------------------------------------------------


def _over(random: np.random.Generator, learned: tuple[float, float], item: Field, count: int) -> Array:
    """Return numbers over the range that the model has learned: most anywhere in it, some near its middle."""
    low, high = learned
    drawn = random.uniform(low, high, count)
    near = random.normal((low + high) / 2, (high - low) / 8, count)
    numbers = np.where(random.random(count) < 0.7, drawn, near)
    if item.dtype.is_float:
        return numbers.astype(item.dtype.numpy)
    limits = np.iinfo(item.dtype.numpy)
    # float64 has no number right below 2**63.
    return np.clip(np.rint(numbers), limits.min, min(limits.max, 2**62)).astype(item.dtype.numpy)


def _sentences(random: np.random.Generator, words: tuple[str, ...], count: int) -> Array:
    ways: tuple[Callable[[str], str], ...] = (str, str, str.upper, str.capitalize, lambda word: f"{word},")
    made = np.empty(count, object)
    for row in range(count):
        chosen = random.integers(0, len(words), random.integers(0, 8))
        made[row] = " ".join(ways[random.integers(0, len(ways))](words[index]) for index in chosen)
    return made
