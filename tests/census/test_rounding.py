"""The census excuses a network's difference only if the last digit of its input makes as much of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from census.rounding import is_rounding

ROWS = np.random.default_rng(5).normal(0, 1, (20, 4)).astype(np.float32)


def centred(rows: Any) -> Any:
    """Return the rows' distances to their mean: nothing but rounding if all rows are the same."""
    return rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)


def steep(rows: Any) -> Any:
    return np.exp(rows * np.float32(20))


def plain(rows: Any) -> Any:
    return rows * np.float32(2)


def test_what_is_left_of_equal_numbers_is_rounding() -> None:
    same = np.repeat(ROWS[:1], 20, axis=0)

    assert is_rounding(centred, same, np.zeros_like(same), np.full_like(same, 7e-9))


def test_what_a_steep_function_makes_of_the_last_digit_is_rounding() -> None:
    expected = steep(ROWS)

    assert is_rounding(steep, ROWS, expected, steep(np.nextafter(ROWS, np.float32(9))))


@pytest.mark.parametrize("own", [centred, steep, plain])
def test_more_than_that_is_a_difference(own: Any) -> None:
    expected = own(ROWS)
    other = expected.copy()
    other[3] = expected[3] * np.float32(1.001) + np.float32(1e-5)

    assert not is_rounding(own, ROWS, expected, other)


def test_numbers_in_place_of_none_are_a_difference() -> None:
    expected = plain(ROWS)
    expected[0, 0] = np.nan

    assert not is_rounding(plain, ROWS, expected, plain(ROWS))


def test_labels_and_other_shapes_are_not_excused() -> None:
    assert not is_rounding(plain, ROWS, np.arange(20), np.arange(20))
    assert not is_rounding(plain, ROWS, plain(ROWS), plain(ROWS)[:, :2])
