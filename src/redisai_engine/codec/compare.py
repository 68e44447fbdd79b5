"""
Comparison of two answers to one input: arrays, DataFrames, and lists and dicts of them.

The rule: containers, shapes and labels (text, integers, booleans) are equal. Floating-point numbers differ by at most
the tolerance, relative to the largest number of the column or tensor. NaN and infinities are in the same places.
`tolerance_of` derives the tolerance from what the model computes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from redisai_engine.codec.fields import is_frame, is_series
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.values import Array

# The rounding error of one operation, in units in the last place. Matrix products of some thousand terms stay below it.
_ULPS = 128

# Kernels and other ill-conditioned operations amplify the rounding of float64 by this much between two correct
# libraries.
_FLOOR = 1e-9


class Difference(Exception):
    """The two answers differ. The text says where."""


def tolerance_of(mapping: Mapping) -> float:
    """
    Return the relative difference that rounding explains for this model, at least 1e-9.

    It is 128 units in the last place of the least precise type that the model computes in, times the square root of the
    number of operations in sequence, because that is how the rounding errors of independent steps add up.
    """
    epsilon = float(np.finfo(mapping.precision.numpy).eps)
    return max(_FLOOR, epsilon * _ULPS * math.sqrt(max(1, mapping.depth)))


def compare(expected: Any, actual: Any, tolerance: float) -> float | None:
    """Return the largest relative difference between numbers, or None if there are no numbers. Raise Difference."""
    largest: float | None = None
    for where, left, right in _pairs(expected, actual, ""):
        found = _compare_arrays(where, left, right, tolerance)
        if found is not None:
            largest = found if largest is None else max(largest, found)
    return largest


def _pairs(expected: Any, actual: Any, where: str) -> Iterator[tuple[str, Array, Array]]:
    """Walk both answers in parallel. Yield each pair of arrays along with the place they are at."""
    if is_frame(expected) and is_frame(actual):
        expected, actual = ({name: frame[name] for name in frame.columns} for frame in (expected, actual))
    if isinstance(expected, dict) and isinstance(actual, dict):
        if list(expected) != list(actual):
            raise Difference(f"expected {list(expected)}, got {list(actual)}")
        for name in expected:
            yield from _pairs(expected[name], actual[name], f"{where}{name}: ")
        return
    if _is_nested(expected) and isinstance(actual, list):
        if len(expected) != len(actual):
            raise Difference(f"{where}expected {len(expected)} items, got {len(actual)}")
        for index, (left, right) in enumerate(zip(expected, actual, strict=True)):
            yield from _pairs(left, right, f"{where}[{index}] ")
        return
    if type(expected) is not type(actual) and not (_is_number(expected) and _is_number(actual)):
        raise Difference(f"{where}expected a {type(expected).__name__}, got a {type(actual).__name__}")
    yield where, _as_array(expected), _as_array(actual)


def _is_nested(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], (dict, list, np.ndarray))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.generic))


def _as_array(value: Any) -> Array:
    if is_series(value):
        found: Array = value.to_numpy()
        return found
    return np.asarray(value)


def _compare_arrays(where: str, expected: Array, actual: Array, tolerance: float) -> float | None:
    if expected.shape != actual.shape:
        raise Difference(f"{where}expected the shape {expected.shape}, got {actual.shape}")
    if expected.dtype.kind == "O" and expected.size and isinstance(expected.flat[0], dict):
        return compare(expected.tolist(), actual.tolist(), tolerance)
    if expected.dtype.kind == "f" and actual.dtype.kind == "f":
        return _compare_numbers(where, expected, actual, tolerance)
    unequal = np.asarray(expected != actual)
    if unequal.any():
        place = tuple(int(axis) for axis in np.argwhere(unequal)[0])
        raise Difference(
            f"{where}{int(unequal.sum())} of {expected.size} labels differ; "
            f"in row {place[0] if place else 0}, expected {_plain(expected[place])}, got {_plain(actual[place])}"
        )
    return None


def _plain(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def _compare_numbers(where: str, expected: Array, actual: Array, tolerance: float) -> float:
    wide = expected.astype(np.float64)
    finite = np.isfinite(wide)
    if not np.array_equal(wide[~finite], actual[~finite].astype(np.float64), equal_nan=True):
        raise Difference(f"{where}NaN or infinity is in different places")
    if not finite.any():
        return 0.0
    gap = np.abs(wide[finite] - actual.astype(np.float64)[finite])
    # Never 0: a column may be all zeros.
    scale = max(float(np.abs(wide[finite]).max()), float(np.finfo(np.float32).tiny))
    difference = float(gap.max()) / scale
    # Not `>`: a NaN only in `actual` makes the difference NaN, and must fail.
    if not difference <= tolerance:
        index = int(np.flatnonzero(finite)[int(gap.argmax())])
        raise Difference(
            f"{where}the largest difference is {difference:.3g} relative to {scale:.6g}, but at most {tolerance:.3g} "
            f"is allowed (expected {float(wide.flat[index])!r}, got {float(actual.flat[index])!r})"
        )
    return difference
