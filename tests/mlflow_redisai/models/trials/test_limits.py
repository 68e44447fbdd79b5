"""NumberLimits of numbers: found where answers begin to differ, told in words, and refused by the schema."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlflow_redisai.models.trials.limits import NumberLimits, indices, limits_of, odd_numbers
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Field, Input, Mapping, Output, Schema
from redisai_engine.protocol import dtypes
from support.mappings import ANSWER

NUMBERS = [np.array([[1.0, -3.0]], np.float32)]


@pytest.mark.parametrize(
    ("largest", "nan", "infinite", "wanted"),
    [
        (np.inf, True, True, NumberLimits()),
        (np.inf, False, True, NumberLimits(gaps=False)),
        (1e25, True, False, NumberLimits(infinite=False, largest=1e20)),
        (3e38, True, False, NumberLimits(infinite=False)),
        (500.0, False, False, NumberLimits(gaps=False, infinite=False, largest=300.0)),
    ],
)
def test_the_limit_is_the_last_size_that_was_answered_alike(
    largest: float, *, nan: bool, infinite: bool, wanted: NumberLimits
) -> None:
    def right(size: float) -> bool:
        if np.isnan(size):
            return nan
        return infinite if np.isinf(size) else size <= largest

    assert limits_of(NUMBERS, [(size, right(size)) for size, _ in odd_numbers(NUMBERS)]) == wanted


def test_every_odd_number_stands_alone_and_in_a_row() -> None:
    tried = [(size, arrays[0]) for size, arrays in odd_numbers([np.zeros((2, 3), np.float32), np.zeros(2, np.int64)])]

    assert {size for size, _ in tried if np.isfinite(size)} == {1e3, 1e4, 1e6, 1e10, 1e20, 1e30, 3e38}
    assert all(
        np.isnan(array[0, 0]) if np.isnan(size) else abs(array[0, 0]) == np.float32(size) for size, array in tried
    )


@pytest.mark.parametrize(("low", "high"), [(0, 9), (-10, 9), (None, 9), (0, None), (None, None)])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_indices_are_found_to_the_last(low: Any, high: Any, dtype: str) -> None:
    start = [np.array([[1, 5], [2, 3]], dtype)]

    def answers(arrays: list[Any]) -> bool:
        return (low is None or arrays[0].min() >= low) and (high is None or arrays[0].max() <= high)

    assert indices(start, answers) == ({} if low is None and high is None else {0: (low, high)})


def test_limits_become_the_schemas_contract_and_notes() -> None:
    limits = NumberLimits(gaps=False, infinite=False, largest=1e6, whole={1: (0, 9)})
    fields = (
        Field("x", "float32", dtypes.FLOAT, (None, 2)),
        Field("i", "int64", dtypes.INT64, (None, 1)),
    )
    inputs = (Input("x", dtypes.FLOAT, (None, 2), (0,)), Input("i", dtypes.INT64, (None, 1), (1,)))
    schema = limits.applied(Schema("tensors", fields), inputs)
    encoder = Encoder(Mapping(inputs, (Output("y"),), (0,), ANSWER, schema))
    rows = {"x": np.ones((1, 2), np.float32), "i": np.array([[9]])}

    encoder.encode(rows)
    for name, bad, said in (
        ("i", 10, "from -9 to 9"),
        ("i", -1, "from 0.0"),
        ("x", 2e6, "from -1e"),
        ("x", np.nan, "NaN"),
    ):
        with pytest.raises(InputMismatch, match=said):
            encoder.encode({**rows, name: np.full_like(rows[name], bad)})
    [note] = limits.notes
    assert note.startswith("missing numbers (NaN), infinite numbers and numbers beyond 1e+06 are refused, because for")
