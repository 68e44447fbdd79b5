"""
The rows of an input that a model itself answers.

A model may refuse one row of many, for instance for a category that it doesn't know. The others must still be tried, so
the rows are asked for in halves, and halves of halves.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from redisai_engine.codec.fields import is_frame
from redisai_engine.codec.values import Array

# How often the model is asked about the rows of one input, by the number of rows. Where it refuses many rows, some that
# it would answer are left out. A small input has a special number in each row, which a model refuses in all columns or
# in none, mostly.
_MOST_CALLS = 40
_MOST_CALLS_OF_FEW = 8
_FEW = 128


def answered(inputs: Any, answers: Callable[[Any], bool]) -> Any:
    """Return the rows that the model answers, all at once; None if there are none. `answers` asks the model."""
    if answers(inputs):
        return inputs
    kept = _answered_rows(inputs, answers)
    if not len(kept):
        return None
    rows = rows_at(inputs, kept)
    # Rows may depend on each other, and then prove nothing.
    return rows if answers(rows) else None


def _answered_rows(inputs: Any, answers: Callable[[Any], bool]) -> Array:
    """Return the numbers of the rows that the model answers, in order. All together were refused."""
    pending = _halves(np.arange(rows_in(inputs)))
    kept: list[Array] = []
    for _ in range(_MOST_CALLS if rows_in(inputs) > _FEW else _MOST_CALLS_OF_FEW):
        if not pending:
            break
        # The largest first: then the calls go where they decide most.
        pending.sort(key=len)
        part = pending.pop()
        if answers(rows_at(inputs, part)):
            kept.append(part)
        else:
            pending += _halves(part)
    return np.sort(np.concatenate(kept)) if kept else np.array([], int)


def _halves(rows: Array) -> list[Array]:
    middle = len(rows) // 2
    return [rows[:middle], rows[middle:]] if middle else []


def rows_in(inputs: Any) -> int:
    """Return the number of rows of an input in a form that pyfunc takes."""
    if isinstance(inputs, dict):
        return max((rows_in(each) for each in inputs.values()), default=0)
    return len(inputs) if hasattr(inputs, "__len__") and not isinstance(inputs, str) else 1


def rows_at(inputs: Any, rows: Array) -> Any:
    """Return some rows of a frame, an array, or a dict of arrays."""
    if isinstance(inputs, dict):
        return {name: values[rows] for name, values in inputs.items()}
    return inputs.iloc[rows].reset_index(drop=True) if is_frame(inputs) else inputs[rows]


def answer_or_none(ask: Callable[[Any], Any], inputs: Any) -> Any:
    """Return the model's own answer without its warnings, None if it raises an error: such input proves nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ask(inputs)
    # A model may raise anything.
    except Exception:
        return None
