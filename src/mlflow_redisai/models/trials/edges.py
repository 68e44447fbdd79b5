"""
Where a model's answers turn: what a family tells of its model, so that trials stand at its own edges.

A converter's mistakes show where answers turn: at a tree's threshold, at a row that the model was trained on, at a
category that it never saw. Each family fills in an `Edges` (`sklearn.edges`, `trees.edges`), and `trials.rows` makes
rows of it.

Columns are counted as the model's input has them: the fields of a frame, or the columns of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redisai_engine.codec.mapping import Field, Schema
from redisai_engine.codec.values import Array
from redisai_engine.protocol import dtypes

# Larger numbers are bounds that a library uses for "none", not what it has seen in training.
_LARGEST = 1e30

# How many edges of one column are kept. A forest may have thousands of thresholds in a column.
_MOST = 1000


@dataclass(frozen=True)
class Edges:
    """
    What a model has learned, by the position of the input's column.

    `cuts` are numbers at which an answer jumps or bends. `categories` are values that encoders know. `ranges` are the
    smallest and the largest number that training has shown. `words` are words that vectorizers of text know. Each of
    `rows` is a set of whole rows, such as rows of the training; it may leave out columns.
    """

    cuts: Mapping[int, Array] = field(default_factory=dict)
    categories: Mapping[int, Array] = field(default_factory=dict)
    ranges: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    words: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    rows: tuple[Mapping[int, Array], ...] = ()


NO_EDGES = Edges()


def merged(found: Iterable[Edges]) -> Edges:
    """Return all edges as one."""
    parts = list(found)
    return Edges(
        _joined([each.cuts for each in parts], lambda arrays: np.unique(np.concatenate(arrays))),
        _joined([each.categories for each in parts], lambda arrays: arrays[0]),
        _joined([each.ranges for each in parts], lambda pairs: (min(p[0] for p in pairs), max(p[1] for p in pairs))),
        _joined([each.words for each in parts], lambda words: words[0]),
        tuple(rows for each in parts for rows in each.rows),
    )


def _joined(maps: list[Mapping[int, Any]], join: Callable[[list[Any]], Any]) -> dict[int, Any]:
    positions = sorted({position for each in maps for position in each})
    return {position: join([each[position] for each in maps if position in each]) for position in positions}


def cuts_with_ranges(cuts: Mapping[int, Array]) -> Edges:
    """Return edges at `cuts`, whose smallest and largest also bound what training has shown."""
    numbers = {position: finite(values) for position, values in cuts.items()}
    kept = {position: values for position, values in numbers.items() if len(values)}
    return Edges(cuts=kept, ranges={position: range_of(values) for position, values in kept.items()})


def finite(values: Any) -> Array:
    """Return the different numbers of an array that training may have shown, in order; at most a thousand of them."""
    numbers = np.unique(np.asarray(values, np.float64).ravel())
    kept: Array = numbers[np.abs(numbers) < _LARGEST]
    return kept[np.linspace(0, len(kept) - 1, _MOST).astype(int)] if len(kept) > _MOST else kept


def range_of(values: Array) -> tuple[float, float]:
    """Return the smallest and the largest of some numbers, with a tenth of their distance added on each side."""
    low, high = float(values.min()), float(values.max())
    margin = (high - low) / 10 or max(abs(low) * 1e-3, 1e-3)
    return low - margin, high + margin


def columns_of(schema: Schema) -> tuple[Field, ...] | None:
    """Return a field for each column that `Edges` counts. None if the input is neither columns nor one matrix."""
    if schema.kind == "columns":
        return schema.fields
    only = schema.fields[0]
    if len(schema.fields) > 1 or schema.named or len(only.shape) != 2 or only.shape[0] is not None or not only.shape[1]:
        return None
    return (only,) * only.shape[1]


# -- the values of one column ---------------------------------------------------------------------


def known_values(edges: Edges, position: int, item: Field) -> Array:
    """Return the values of one column that the model knows: cuts with their neighbours, and categories."""
    cuts = edges.cuts.get(position)
    made = [beside(cuts, item)] if cuts is not None and _is_number(item) else []
    categories = _fitting(edges.categories.get(position), item)
    if categories is not None:
        made.append(categories)
    return np.concatenate(made) if made else np.array([], item.dtype.numpy)


def beside(cuts: Array, item: Field) -> Array:
    """Return numbers at `cuts` and right beside them, in float32 and in float64, or whole ones for whole numbers."""
    if not item.dtype.is_float:
        limits = np.iinfo(item.dtype.numpy)
        near = np.unique(np.concatenate([np.floor(cuts), np.ceil(cuts), np.floor(cuts) - 1, np.ceil(cuts) + 1]))
        inside = near[(near >= float(limits.min)) & (near < float(limits.max))]
        return inside.astype(item.dtype.numpy)
    with np.errstate(over="ignore", under="ignore"):
        narrow = cuts.astype(np.float32)
        steps = [narrow, *(np.nextafter(narrow, np.float32(end)) for end in (-np.inf, np.inf))]
        if item.dtype is dtypes.DOUBLE:
            wide = [cuts, *(np.nextafter(cuts, end) for end in (-np.inf, np.inf))]
            steps = [step.astype(np.float64) for step in [*steps, *wide]]
    near = np.unique(np.concatenate(steps))
    return np.asarray(near[np.isfinite(near)], item.dtype.numpy)


def strange_values(edges: Edges, position: int, item: Field, known: Array | None) -> list[Any]:
    """
    Return values that the model's encoders don't know, though they look like those that it does.

    `known` are the example's values. [] for a column of numbers without categories.
    """
    if item.dtype.is_string:
        texts = _texts(edges, position, known)
        return list(dict.fromkeys([*_spellings(texts), *_STRANGE_TEXTS]))
    categories = _fitting(edges.categories.get(position), item)
    if categories is None or not len(categories) or not _is_number(item):
        return []
    low, high = float(categories.min()), float(categories.max())
    outside = [low - 1, high + 1, high + 1000]
    if not item.dtype.is_float:
        return [int(value) for value in outside if np.iinfo(item.dtype.numpy).min <= value < 2**31 - 1]
    # Between categories, and beside them by less than a narrower type can tell.
    return [*outside, low + 0.5, low - 0.2, high - 0.5, high + 1e-7, low - 1e-7, float(np.nextafter(high, np.inf))]


_STRANGE_TEXTS = ("", " ", "no such category", "Größe 42 µm", "日本語", "e\u0301", "x" * 1000)


def _texts(edges: Edges, position: int, known: Array | None) -> list[str]:
    found = list(edges.categories.get(position, ())) or list(edges.words.get(position, ()))
    return [str(value) for value in (found or ([] if known is None else list(known)))][:5]


def _spellings(texts: list[str]) -> Iterable[str]:
    for text in texts:
        yield from (text.upper(), text.capitalize(), f" {text}", f"{text} ", f"{text}s", text[:-1])


def _is_number(item: Field) -> bool:
    return not item.dtype.is_string and item.dtype is not dtypes.BOOL


def _fitting(categories: Array | None, item: Field) -> Array | None:
    """Return categories in the type of a column, None if they can't have it."""
    if categories is None:
        return None
    try:
        fitted = np.asarray(categories).astype(item.dtype.numpy)
    except (TypeError, ValueError, OverflowError):
        return None
    if item.dtype.is_string:
        return fitted if all(isinstance(value, str) for value in fitted.tolist()) else None
    return fitted if np.array_equal(fitted, np.asarray(categories)) else None
