"""Made-up rows for trials: always the same, around the example, with known categories, and with gaps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.models.trials.probes import made_up, with_gaps
from redisai_engine.codec.mapping import Field, Schema
from redisai_engine.protocol import dtypes

COLUMNS = Schema(
    "columns",
    (
        Field("age", "double", dtypes.DOUBLE),
        Field("count", "integer", dtypes.INT32),
        Field("city", "string", dtypes.STRING),
        Field("new", "boolean", dtypes.BOOL),
    ),
)
EXAMPLE = pd.DataFrame({"age": [40.0, 50.0], "count": [3, 1000], "city": ["Bonn", "Rome"], "new": [True, False]})


def rows(example: Any = EXAMPLE, categories: dict[str | int, Any] | None = None) -> pd.DataFrame:
    found = made_up(COLUMNS, example, categories or {})
    assert isinstance(found, pd.DataFrame)
    return found


def test_the_same_model_gets_the_same_rows() -> None:
    pd.testing.assert_frame_equal(rows(), rows())


def test_numbers_lie_around_the_examples_and_text_is_the_examples() -> None:
    found = rows()

    assert len(found) == 48
    assert found["age"].between(1, 150).all()
    assert found["age"].nunique() > 40
    assert found["count"].dtype == np.int32
    assert set(found["city"]) == {"Bonn", "Rome"}
    assert set(found["new"]) == {True, False}


def test_categories_that_the_model_knows_are_drawn_from() -> None:
    assert set(rows(categories={2: np.array(["Oslo", "Riga"])})["city"]) == {"Oslo", "Riga"}


def test_without_example_numbers_come_in_several_sizes() -> None:
    found = rows(example=None)

    assert found["age"].abs().max() > 10
    assert found["age"].abs().min() < 1
    assert set(found["city"]) == {""}


@pytest.mark.parametrize(
    ("shape", "made"), [((None, 3), (48, 3)), ((4, 3), (4, 3)), ((None, None), None)], ids=["open", "fixed", "unknown"]
)
def test_a_tensor_has_the_shape_of_the_signature(shape: Any, made: tuple[int, ...] | None) -> None:
    found = made_up(Schema("tensors", (Field(None, "float32", dtypes.FLOAT, shape),)), None, {})

    assert (None if found is None else found.shape) == made


def test_tensors_with_names_are_a_dict() -> None:
    fields = tuple(Field(name, "float32", dtypes.FLOAT, (None, 2)) for name in "ab")

    assert {name: array.shape for name, array in made_up(Schema("tensors", fields), None, {}).items()} == {
        "a": (48, 2),
        "b": (48, 2),
    }


class TestGaps:
    SCHEMA = Schema("columns", tuple(Field(name, "double", dtypes.DOUBLE) for name in ("filled", "plain")))
    FRAME = pd.DataFrame({"filled": [1.0, 2.0, 3.0], "plain": [1.0, 2.0, 3.0]})

    def test_rows_with_gaps_have_them_only_where_they_may_be(self) -> None:
        schema = Schema("columns", (self.SCHEMA.fields[0], replace(self.SCHEMA.fields[1], gaps=False)))
        large = pd.concat([self.FRAME] * 20)

        found = with_gaps(schema, large)

        assert 0 < found["filled"].isna().mean() < 1
        assert not found["plain"].isna().any()
        assert not large.isna().any(axis=None)

    def test_where_none_may_be_there_are_no_such_rows(self) -> None:
        schema = Schema("columns", tuple(replace(item, gaps=False) for item in self.SCHEMA.fields))

        assert with_gaps(schema, self.FRAME) is None
