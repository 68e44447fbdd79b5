"""
Made-up rows for trials of a conversion, next to the model's own input example.

An input example often has a single row, while a converter's mistakes show up on many. Made-up numbers lie around those
of the example, or else around zero in several magnitudes. Made-up text comes from the example and from the categories
that the model's encoders know.

Invariant: the same model gets the same rows every time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlflow_redisai.models.trials.contracts import changed
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.fields import take_columns, take_tensors
from redisai_engine.codec.mapping import COLUMN_DTYPES, Field, Schema
from redisai_engine.codec.values import Array
from redisai_engine.protocol import dtypes

_ROWS = 48
_SEED = 20260101

# Magnitudes of made-up numbers for a column of which nothing is known.
_SIZES = (0.1, 1.0, 10.0, 100.0)


def made_up(schema: Schema, example: Any, categories: Mapping[int, Array]) -> Any:
    """
    Return made-up rows in the form that pyfunc takes: a frame, an array, or a dict of arrays.

    Return None if the schema leaves inner lengths open, or for tensors of text without an example. `categories` are
    values to draw from, by the position of the column.
    """
    random = np.random.default_rng(_SEED)
    known = _known(schema, example)
    if schema.kind == "tensors":
        rows = _tensors(random, schema, known)
        # MLflow distinguishes numpy's own text type from text as objects.
        return rows.astype(str) if isinstance(rows, np.ndarray) and _is_numpy_text(example) else rows
    import pandas as pd

    columns = {}
    for index, item in enumerate(schema.fields):
        name: str | int = item.label if item.label is not None else index
        columns[name] = values_for(random, item, known[index], categories.get(index), _ROWS)
    return pd.DataFrame(columns)


def with_gaps(schema: Schema, rows: Any) -> Any:
    """Return rows with gaps in every field that may have them, or None if no field may."""
    random = np.random.default_rng(_SEED)

    def put(values: Array) -> Array:
        values[random.random(values.shape) < 1 / 3] = np.nan
        return values

    fields = [index for index, item in enumerate(schema.fields) if item.dtype.is_float and item.used and item.gaps]
    return changed(schema, rows, fields, put) if fields else None


def _is_numpy_text(example: Any) -> bool:
    return isinstance(example, np.ndarray) and example.dtype.kind == "U"


def _known(schema: Schema, example: Any) -> list[Array | None]:
    """Return the example's values by field, None for every field if there is no usable example."""
    if example is not None:
        try:
            return list((take_columns if schema.kind == "columns" else take_tensors)(example, schema))
        except InputMismatch:
            pass
    return [None] * len(schema.fields)


def example_columns(schema: Schema, example: Any) -> list[Array | None]:
    """Return the example's values by column: the fields of a frame, or the columns of the only matrix."""
    known = _known(schema, example)
    if schema.kind == "columns":
        return known
    width = schema.fields[0].shape[1] or 0
    return [None] * width if known[0] is None else list(known[0].T)


def _tensors(random: np.random.Generator, schema: Schema, known: list[Array | None]) -> Any:
    arrays = {}
    for index, (item, values) in enumerate(zip(schema.fields, known, strict=True)):
        inner = item.shape[1:]
        if any(length is None for length in inner) or (item.dtype.is_string and values is None):
            return None
        shape = (_ROWS if item.shape[0] is None else item.shape[0], *(length or 1 for length in inner))
        if values is not None:
            drawn = _around(random, values[random.integers(0, len(values), shape[0])], item)
        else:
            drawn = values_for(random, item, None, None, int(np.prod(shape))).reshape(shape)
        arrays[item.name if item.name is not None else index] = drawn
    return arrays if schema.named else arrays[0]


def values_for(
    random: np.random.Generator, item: Field, known: Array | None, choices: Array | None, count: int
) -> Array:
    """Return `count` values for a column: some of `choices`, or around the example's values, or of several sizes."""
    if not item.used:
        return unread(item, known, count)
    if choices is not None and len(choices):
        # Categories of numbers may be none that the column can hold.
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return np.asarray(choices[random.integers(0, len(choices), count)].astype(item.dtype.numpy))
    if known is not None:
        return _around(random, known[random.integers(0, len(known), count)], item)
    return _from_nothing(random, item, count)


def unread(item: Field, known: Array | None, count: int) -> Array:
    """Return values for a column that the model doesn't read: the example's first, or some value of its type."""
    if known is not None and len(known):
        return np.repeat(known[:1], count)
    if item.type in COLUMN_DTYPES:
        return np.zeros(count, item.dtype.numpy) if not item.dtype.is_string else np.array([""] * count, object)
    if item.type == "datetime":
        return np.zeros(count, "datetime64[ns]")
    return np.array([b""] * count, object)


def _around(random: np.random.Generator, values: Array, item: Field) -> Array:
    if item.dtype.is_float:
        sizes = np.maximum(np.abs(np.nan_to_num(values)), 0.01)
        return np.asarray(values + random.normal(0, 0.2, values.shape) * sizes, item.dtype.numpy)
    if item.dtype is dtypes.BOOL or item.dtype.is_string:
        return values
    moved = values + np.rint(random.normal(0, 0.2, values.shape) * np.abs(values)).astype(values.dtype)
    limits = np.iinfo(item.dtype.numpy)
    clipped: Array = np.clip(moved, limits.min, limits.max).astype(item.dtype.numpy)
    return clipped


def _from_nothing(random: np.random.Generator, item: Field, count: int) -> Array:
    if item.dtype.is_string:
        return np.array([""] * count, object)
    if item.dtype is dtypes.BOOL:
        return random.integers(0, 2, count).astype(bool)
    if item.dtype.is_float:
        sizes = np.asarray(_SIZES)[random.integers(0, len(_SIZES), count)]
        return np.asarray(random.normal(0, 1, count) * sizes, item.dtype.numpy)
    return random.integers(0, 10, count).astype(item.dtype.numpy)
