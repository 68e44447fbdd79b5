"""Numbers right beside an edge, in the types that a column may have, and values that look like known categories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlflow_redisai.models.trials.edges import (
    Edges,
    beside,
    columns_of,
    cuts_with_ranges,
    known_values,
    merged,
    strange_values,
)
from redisai_engine.codec.mapping import Field, Schema
from redisai_engine.protocol import dtypes

DOUBLE = Field("x", "double", dtypes.DOUBLE)
FLOAT = Field("x", "float", dtypes.FLOAT)
INT32 = Field("x", "integer", dtypes.INT32)
TEXT = Field("x", "string", dtypes.STRING)


def test_a_double_has_neighbours_in_float64_and_in_float32() -> None:
    found = set(beside(np.array([0.1]), DOUBLE).tolist())

    narrow = np.float32(0.1)
    assert found == {
        0.1,
        float(np.nextafter(0.1, 0)),
        float(np.nextafter(0.1, 1)),
        float(narrow),
        float(np.nextafter(narrow, np.float32(0))),
        float(np.nextafter(narrow, np.float32(1))),
    }


def test_a_float_has_neighbours_in_float32() -> None:
    found = beside(np.array([1.0]), FLOAT)

    assert found.dtype == np.float32
    assert found.tolist() == [1 - 2**-24, 1.0, 1 + 2**-23]


def test_an_integer_has_whole_neighbours_that_its_type_can_hold() -> None:
    assert beside(np.array([2.5, 1e12]), INT32).tolist() == [1, 2, 3, 4]


def test_numbers_at_the_end_of_a_type_stay_finite() -> None:
    found = beside(np.array([np.finfo(np.float64).max, 1e39]), DOUBLE)

    assert np.isfinite(found).all()
    assert beside(np.array([1e39]), FLOAT).tolist() == [] or np.isfinite(beside(np.array([1e39]), FLOAT)).all()


def test_between_whole_categories_stand_fractions_for_a_column_of_fractions() -> None:
    edges = Edges(categories={0: np.array([0, 1, 2])})

    found = strange_values(edges, 0, DOUBLE, None)

    assert {0.5, 1.5, -0.2, 2.0000001, 3.0, -1.0} <= set(found)
    assert all(isinstance(value, int) for value in strange_values(edges, 0, INT32, None))


def test_text_looks_like_the_categories_and_like_nothing_known() -> None:
    found = strange_values(Edges(categories={0: np.array(["red"])}), 0, TEXT, None)

    assert {"", "RED", " red", "red ", "reds", "re"} <= set(found)
    assert any(not value.isascii() for value in found)
    assert max(map(len, found)) == 1000


@pytest.mark.parametrize(
    ("categories", "item"),
    [(np.array(["a"]), DOUBLE), (np.array([1.5]), INT32), (np.array([1]), TEXT)],
    ids=["text", "fractions", "numbers"],
)
def test_categories_that_a_column_cannot_hold_are_left_out(categories: Any, item: Field) -> None:
    assert len(known_values(Edges(categories={0: categories}), 0, item)) == 0


def test_edges_of_several_steps_are_joined() -> None:
    found = merged([cuts_with_ranges({0: np.array([1.0, 2.0])}), cuts_with_ranges({0: np.array([2.0, 11.0])})])

    assert found.cuts[0].tolist() == [1, 2, 11]
    assert found.ranges[0] == (0.9, 11.9)


def test_bounds_that_mean_none_are_no_edges() -> None:
    found = cuts_with_ranges({0: np.array([np.inf, 1e300]), 1: np.array([-np.inf, 3.0])})

    assert list(found.cuts) == [1]
    assert found.cuts[1].tolist() == [3]


@pytest.mark.parametrize(
    ("shape", "count"), [((None, 3), 3), ((4, 3), None), ((None, 2, 2), None), ((None, None), None)], ids=str
)
def test_the_columns_of_a_matrix_are_counted(shape: Any, count: int | None) -> None:
    found = columns_of(Schema("tensors", (Field(None, "float64", dtypes.DOUBLE, shape),)))

    assert (None if found is None else len(found)) == count
