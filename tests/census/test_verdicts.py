"""The census compares answers strictly, and knows a refusal that only repeats another library's text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from census.verdicts import differs, is_raw
from mlflow_redisai.errors import NotConvertible

NUMBERS = np.array([[0.5, 100.0], [-3.0, 1e-7]])

ALIKE: dict[str, tuple[Any, Any]] = {
    "rounding": (NUMBERS, NUMBERS * (1 + 1e-7)),
    "narrower numbers": (NUMBERS, NUMBERS.astype(np.float32)),
    "the logarithm of a probability of 1": (np.array([-4e-16, -36.0]), np.array([0.0, -36.0])),
    "gaps": (np.array([np.nan, np.inf]), np.array([np.nan, np.inf])),
    "text": (np.array(["a", "b"]), np.array(["a", "b"], object)),
    "frames": (pd.DataFrame({"x": [1.0]}), pd.DataFrame({"x": [1.0]})),
    "several targets": ([NUMBERS, NUMBERS], [NUMBERS, NUMBERS]),
}
UNLIKE: dict[str, tuple[Any, Any, str]] = {
    "numbers": (NUMBERS, np.array([[0.5, 100.0], [-2.99, 1e-7]]), "1 of 4 differ, in row 1 -3.0 became -2.99"),
    "a gap filled": (np.array([np.nan]), np.array([0.0]), "1 of 1 differ, in row 0 nan became 0.0"),
    "labels": (np.array([1, 2]), np.array([1, 3]), "1 of 2 differ, in row 1 2 became 3"),
    "types": (np.array([1, 0]), np.array([True, False]), "the type int64 became bool"),
    "shapes": (NUMBERS, NUMBERS.ravel(), "the shape (2, 2) became (4,)"),
    "targets": ([NUMBERS, NUMBERS], NUMBERS, "a list of 2 became a ndarray"),
    "columns": (pd.DataFrame({"x": [1.0]}), pd.DataFrame({"y": [1.0]}), "a dict of ['x'] became a dict of ['y']"),
}


@pytest.mark.parametrize("case", ALIKE)
def test_answers_that_only_rounding_tells_apart_are_equal(case: str) -> None:
    assert differs(*ALIKE[case]) is None


@pytest.mark.parametrize("case", UNLIKE)
def test_the_first_difference_is_told(case: str) -> None:
    expected, actual, told = UNLIKE[case]

    assert differs(expected, actual) == told


def refusal(message: str, cause: Exception | None) -> NotConvertible:
    try:
        raise NotConvertible(message) from cause
    except NotConvertible as error:
        return error


def test_a_refusal_made_of_another_librarys_text_is_raw() -> None:
    cause = KeyError("Option 'zipmap' not in []")

    error = refusal(f"the scikit-learn model RFE can't be converted to ONNX: {cause}", cause)

    assert is_raw(error, error.message)


@pytest.mark.parametrize("cause", [None, KeyError("Option 'zipmap' not in []")])
def test_a_reason_of_our_own_is_not_raw(cause: Exception | None) -> None:
    error = refusal(f"the parameter metric='jaccard' has no form in ONNX; use 'euclidean' ({cause})", cause)

    assert not is_raw(error, error.message)
