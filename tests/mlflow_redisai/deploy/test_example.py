"""The example that a record keeps: JSON of every kind of input, never more than 16 KB."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.deploy.example import as_json, first_rows


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (
            pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
            {"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"], [2, None]]}},
        ),
        (np.array([[1.5, 2.5]], np.float32), {"inputs": [[1.5, 2.5]]}),
        ({"ids": np.array([1, 2])}, {"inputs": {"ids": [1, 2]}}),
        (["a", "b"], {"inputs": ["a", "b"]}),
        ("text", {"inputs": "text"}),
    ],
)
def test_each_kind_of_example_is_json_that_mlflow_takes(example: object, expected: object) -> None:
    assert json.loads(as_json(example)) == expected


def test_what_json_lacks_is_no_example() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json(np.array([np.nan]))


@pytest.mark.parametrize(
    ("example", "first"),
    [
        (np.arange(6).reshape(3, 2), [[0, 1]]),
        ([1, 2, 3], [1]),
        ("text", "text"),
        (7, 7),
        (np.float64(7), 7),
    ],
)
def test_the_first_row_of_each_kind(example: object, first: object) -> None:
    got = first_rows(example, 1)

    assert (got.tolist() if isinstance(got, (np.ndarray, np.generic)) else got) == first


def test_the_first_row_of_frames_and_dicts() -> None:
    assert first_rows(pd.DataFrame({"a": [1, 2]}), 1).to_dict("list") == {"a": [1]}
    assert first_rows({"a": [1, 2], "b": [3, 4]}, 1) == {"a": [1], "b": [3]}
