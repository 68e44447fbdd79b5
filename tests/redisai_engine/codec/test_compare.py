"""Answers are equal if labels, containers and shapes are, and if numbers differ by no more than rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.mapping import Answer, Mapping
from redisai_engine.protocol import dtypes


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-7])),
        (np.array([1e-30, 1.0]), np.array([0.0, 1.0])),
        (np.array([np.nan, np.inf, 1.0]), np.array([np.nan, np.inf, 1.0])),
        (np.array(["a"]), np.array(["a"], object)),
        (pd.DataFrame({"a": [1], "b": ["x"]}), pd.DataFrame({"a": [1], "b": ["x"]})),
        (pd.Series([1.0]), pd.Series([1.0])),
        ({"p": [{0: 0.5}]}, {"p": [{0: 0.5 + 1e-8}]}),
        ([np.ones(2), np.zeros(1)], [np.ones(2), np.zeros(1)]),
    ],
)
def test_what_is_the_same(expected: Any, actual: Any) -> None:
    compare(expected, actual, 1e-6)


def test_the_largest_difference_of_all_parts_is_returned_relative_to_the_largest_number() -> None:
    expected = {"a": np.array([100.0, 0.0]), "b": [np.array([1.0])], "label": np.array(["x"])}
    actual = {"a": np.array([100.0, 1.0]), "b": [np.array([1.5])], "label": np.array(["x"])}

    assert compare(expected, actual, 1.0) == 0.5


def test_answers_without_numbers_have_no_difference() -> None:
    assert compare(np.array(["x"]), np.array(["x"]), 1e-6) is None


@pytest.mark.parametrize(
    ("expected", "actual", "sentence"),
    [
        (np.array([1.0]), np.array([1.1]), r"the largest difference is 0\.1 relative to 1, but at most 1e-06"),
        (np.ones(2), np.ones((2, 1)), r"expected the shape \(2,\), got \(2, 1\)"),
        (np.array([1]), np.array([2]), "1 of 1 labels differ"),
        (np.array(["a", "b"]), np.array(["a", "c"]), "in row 1, expected .*'b'.*, got .*'c'"),
        (np.array([np.nan]), np.array([0.0]), "NaN or infinity is in different places"),
        (np.ones(1), pd.DataFrame({"a": [1.0]}), "expected a ndarray, got a DataFrame"),
        ({"a": np.ones(1)}, {"b": np.ones(1)}, r"expected \['a'\], got \['b'\]"),
        ([np.ones(1)], [np.ones(1), np.ones(1)], "expected 1 items, got 2"),
        (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": [2.0]}), "^a: the largest difference is 1 "),
    ],
)
def test_what_is_not_the_same(expected: Any, actual: Any, sentence: str) -> None:
    with pytest.raises(Difference, match=sentence):
        compare(expected, actual, 1e-6)


class TestTolerance:
    """The documented rule: 128 units in the last place, times the square root of the depth, and at least 1e-9."""

    def mapping(self, depth: int, precision: dtypes.DType) -> Mapping:
        return replace(Mapping.generic(["x"], ["y"]), depth=depth, precision=precision, answer=Answer("ndarray", ()))

    @pytest.mark.parametrize(("depth", "expected"), [(1, 1.5e-5), (100, 1.5e-4)])
    def test_float32_grows_with_depth(self, depth: int, expected: float) -> None:
        assert tolerance_of(self.mapping(depth, dtypes.FLOAT)) == pytest.approx(expected, rel=0.05)

    def test_float64_has_a_floor(self) -> None:
        assert tolerance_of(self.mapping(10, dtypes.DOUBLE)) == 1e-9
