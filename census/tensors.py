"""Questions for networks: tensors of random numbers, and tensors with odd values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from census.rows import Question

FRESH = 1000

_ODD = {"a gap": np.nan, "infinity": np.inf, "minus infinity": -np.inf, "1e30": 1e30, "a subnormal": 1e-40, "zero": 0.0}


def example(shape: tuple[int, ...], dtype: str, random: np.random.Generator, count: int = 3) -> Any:
    """Return rows of a shape: numbers around 0, or integers from 0 to 9."""
    if dtype.startswith("int"):
        return random.integers(0, 10, (count, *shape)).astype(dtype)
    return random.normal(0, 1, (count, *shape)).astype(dtype)


def questions(shape: tuple[int, ...], dtype: str, random: np.random.Generator) -> tuple[Question, ...]:
    """Return a thousand fresh rows, fewer in other sizes, and rows with odd values."""
    fresh = example(shape, dtype, random, FRESH)
    asked = (
        Question("fresh rows", fresh),
        Question("one row", fresh[:1]),
        Question("rows in another order", fresh[::-1][:50].copy()),
        Question("the same row again and again", np.repeat(fresh[:1], 20, axis=0)),
        *_sizes(fresh, dtype),
    )
    return tuple(replace(question, amplifies=True) for question in asked)


def _sizes(fresh: Any, dtype: str) -> Iterator[Question]:
    if dtype.startswith("int"):
        yield Question("integers beyond those of the example", fresh[:5] + 100)
        yield Question("negative integers", -fresh[:5] - 1)
        return
    yield Question("numbers a hundred times as large", fresh[:100] * np.asarray(100, dtype))
    yield Question("whole numbers", np.rint(fresh[:100] * 3))
    yield Question("only negative numbers", -np.abs(fresh[:100]))
    for name, value in _ODD.items():
        rows = fresh[:2].copy()
        rows.reshape(2, -1)[0, 0] = value
        yield Question(f"{name} in a row", rows)
