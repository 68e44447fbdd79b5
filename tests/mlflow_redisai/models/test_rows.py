"""The number of rows that a model takes at a time, and the note about it."""

from __future__ import annotations

import pytest

from mlflow_redisai.models.rows import batch_notes, fixed_batch
from redisai_engine.codec.mapping import Input, Shape
from redisai_engine.protocol import dtypes


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [
        (((4, 2), (4,)), 4),
        (((None, 2),), None),
        (((4, 2), (None, 2)), None),
        (((4, 2), (3, 2)), None),
        (((4, 2), ()), None),
        ((None,), None),
    ],
)
def test_a_number_is_fixed_if_all_inputs_have_it(shapes: tuple[Shape | None, ...], rows: int | None) -> None:
    assert fixed_batch(tuple(Input("x", dtypes.FLOAT, shape) for shape in shapes)) == rows


EIGHT = (
    "the model takes exactly 8 rows at a time; predict splits its input into requests of that size and pads the last "
    "one with copies of its last row"
)


@pytest.mark.parametrize(
    ("batch", "notes"),
    [
        (None, ()),
        (1, ("the model takes exactly one row at a time; predict sends each row in a request of its own",)),
        (8, (EIGHT,)),
    ],
)
def test_the_user_is_told(batch: int | None, notes: tuple[str, ...]) -> None:
    assert batch_notes(batch) == notes
