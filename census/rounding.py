"""
How much of a difference rounding explains in a network, where no fixed tolerance does: differences of nearly equal
numbers, and exponentials of large ones, amplify it.

A network's own answer shows it. If it changes with the last digit of its input, then two correct libraries, which add
up in another order, differ by as much. Models that compare numbers with thresholds don't get this excuse: the last
digit is what decides there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_DRAWS = 4  # of directions in which each number of the input goes
_STEPS = 8.0  # times such a change: a network rounds in every layer, and its input only once


def is_rounding(own: Callable[[Any], Any], inputs: Any, expected: Any, actual: Any) -> bool:
    """Return whether two answers to an array differ no more in any row than by what rounding does to the first."""
    if not all(isinstance(each, np.ndarray) and each.dtype.kind == "f" for each in (inputs, expected, actual)):
        return False
    if expected.shape != actual.shape or len(expected) != len(inputs):
        return False
    random = np.random.default_rng(1)
    ways = [random.choice([-np.inf, np.inf], inputs.shape).astype(inputs.dtype) for _ in range(_DRAWS)]
    changes = [_gaps(expected, own(np.nextafter(inputs, way))) for way in ways]
    return bool((_gaps(expected, actual) <= _STEPS * np.max(changes, axis=0)).all())


def _gaps(left: Any, right: Any) -> Any:
    """Return the largest difference in each row, NaN where one isn't a number."""
    return np.abs(left.astype(np.float64) - right.astype(np.float64)).reshape(len(left), -1).max(axis=1)
