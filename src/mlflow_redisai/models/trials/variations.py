"""
Variations of a network's input for trials, and how far two answers differ.

Networks know nothing of their inputs but shapes and types. So numbers get other magnitudes and signs; whole numbers
take values within what is known and beyond, such as an index that an embedding doesn't have.

Invariant: the same input gets the same variations every time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from redisai_engine.codec.values import Array

_SEED = 20260101
#: Rows of a trial with numbers of another magnitude.
FEW = 5
# What the example's numbers are multiplied by. The standard deviations of numbers that have nothing to do with them.
_FACTORS = (10.0, 0.1, -1.0, 100.0, 0.0)
_DEVIATIONS = (0.1, 1.0, 10.0)
_WHOLE = (0, 1, -1, 2, 100, 100_000)


def varied(start: Sequence[Array]) -> Iterator[list[Array]]:
    """Yield few rows with numbers of other magnitudes and signs, and whole numbers within the example's and beyond."""
    random = np.random.default_rng(_SEED)
    few = [array[:FEW] for array in start]
    if any(array.dtype.kind == "f" for array in few):
        for factor in _FACTORS:
            yield [_scaled(array, factor) for array in few]
        for deviation in _DEVIATIONS:
            yield [_drawn(random, array, deviation) for array in few]
    for index, array in enumerate(few):
        if array.dtype.kind == "b":
            for value in (False, True):
                yield exchanged(few, index, np.full_like(array, value))
        elif array.dtype.kind in "iu":
            yield exchanged(few, index, random.integers(0, int(array.max()) + 1, array.shape).astype(array.dtype))
            for whole in dict.fromkeys((*_WHOLE, int(array.max()) + 1)):
                if np.iinfo(array.dtype).min <= whole <= np.iinfo(array.dtype).max:
                    yield exchanged(few, index, with_last(array, whole))


def _scaled(array: Array, factor: float) -> Array:
    return np.asarray(array * factor, array.dtype) if array.dtype.kind == "f" else array


def _drawn(random: np.random.Generator, array: Array, deviation: float) -> Array:
    return np.asarray(random.normal(0, deviation, array.shape), array.dtype) if array.dtype.kind == "f" else array


def with_last(array: Array, value: int) -> Array:
    """Return a copy whose last number in each row is another: one such number is enough for an error."""
    changed: Array = array.copy()
    changed.reshape(len(array), -1)[:, -1:] = value
    return changed


def exchanged(arrays: Sequence[Array], index: int, array: Array) -> list[Array]:
    """Return the arrays with another one at a position."""
    return [array if position == index else other for position, other in enumerate(arrays)]


# -- differences ----------------------------------------------------------------------------------


def nudged(random: np.random.Generator, array: Array) -> Array:
    """Return the array with its numbers one unit in the last place of float32 larger or smaller."""
    if array.dtype.kind != "f":
        return array
    epsilon = max(np.finfo(array.dtype).eps, np.finfo(np.float32).eps)
    return np.asarray(array * (1 + epsilon * random.choice([-1, 1], array.shape)), array.dtype)


def change(one: Array, other: Array) -> float:
    """Return the largest difference between numbers, relative to the largest number."""
    if one.dtype.kind != "f" or one.shape != other.shape:
        return 0.0
    finite = np.isfinite(one) & np.isfinite(other)
    if not finite.any():
        return 0.0
    before, after = one[finite].astype(np.float64), other[finite].astype(np.float64)
    return float(np.abs(before - after).max()) / max(float(np.abs(before).max()), float(np.finfo(np.float32).tiny))


def same(one: Array, other: Array) -> bool:
    """Return whether two answers are equal to the last bit. NaN equals NaN."""
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
