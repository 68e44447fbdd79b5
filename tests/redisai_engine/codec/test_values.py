"""A value is converted if nothing is lost, and otherwise refused with a sentence that says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.values import fit, is_missing
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType

TYPES = {
    "boolean": dtypes.BOOL,
    "integer": dtypes.INT32,
    "long": dtypes.INT64,
    "float": dtypes.FLOAT,
    "double": dtypes.DOUBLE,
    "string": dtypes.STRING,
}


def fitted(values: Any, wanted: str) -> Any:
    return fit(np.asarray(values), TYPES[wanted], "column 'x'", wanted)


@pytest.mark.parametrize(
    ("values", "wanted", "result"),
    [
        (np.array([1, 2]), "double", [1.0, 2.0]),
        (np.array([1, 2], np.int8), "long", [1, 2]),
        (np.array([1, 2]), "integer", [1, 2]),
        (np.array([1.5, np.inf]), "float", [1.5, np.inf]),
        (np.array([2**53]), "double", [2.0**53]),
        (np.array([1, None, 2.5], object), "double", [1.0, np.nan, 2.5]),
        (np.array([pd.NA, 2], object), "double", [np.nan, 2.0]),
        (np.array([3, 4], object), "long", [3, 4]),
        (np.array([True, False], object), "boolean", [True, False]),
        (np.array(["a", "001"], object), "string", ["a", "001"]),
        (np.array(["a", "bb"]), "string", ["a", "bb"]),
    ],
)
def test_what_fits(values: Any, wanted: str, result: Any) -> None:
    got = fitted(values, wanted)

    assert got.dtype == TYPES[wanted].numpy
    np.testing.assert_array_equal(got, np.array(result, got.dtype))


@pytest.mark.parametrize(
    ("values", "wanted", "sentence"),
    [
        (np.array([1.5]), "long", "column 'x' must be long, got float64; convert it first if that is intended"),
        (np.array([1.0]), "long", "column 'x' must be long, got float64"),
        (np.array([1.0, np.nan]), "long", "which has no NaN, but the value in row 1 is missing; fill it, or declare"),
        (np.array([1, None], object), "integer", "the value in row 1 is missing"),
        (np.array([2**31]), "integer", "must be integer \\(-2147483648 to 2147483647\\), got 2147483648"),
        (np.array([2**53 + 1]), "double", "must be double, which can't hold 9007199254740993 exactly"),
        (np.array([2**24 + 1]), "float", "must be float, which can't hold 16777217 exactly"),
        (np.array([1e300]), "float", "numbers that are too large for it"),
        (np.array([True]), "double", "must be double, got bool"),
        (np.array(["1.5"], object), "double", "must be double, got '1.5' \\(str\\) in row 0; pass numbers, not text"),
        (np.array([1, True], object), "long", "got True \\(bool\\) in row 1"),
        (np.array([2**70], object), "long", "got 1180591620717411303424, which is too large for 64 bits"),
        (np.array([1]), "boolean", "must be boolean, got int64"),
        (np.array([1]), "string", "must be string, got int64; convert it with astype\\(str\\), and read JSON with"),
        (np.array(["2024-01-05"], "M8[ns]"), "long", "pandas.read_json turns columns with names like dates into times"),
        (
            np.array(["a", None], object),
            "string",
            "the value in row 1 is missing, which a tensor of strings can't represent",
        ),
        (np.array(["a", 1], object), "string", "got 1 \\(int\\) in row 1; convert it with astype\\(str\\)"),
    ],
)
def test_what_does_not_fit_is_told(values: Any, wanted: str, sentence: str) -> None:
    with pytest.raises(InputMismatch, match=sentence) as caught:
        fitted(values, wanted)

    assert str(caught.value).count("\n") == 0


def test_an_array_that_fits_already_is_not_copied() -> None:
    values = np.arange(5.0)

    assert fit(values, dtypes.DOUBLE, "column 'x'", "double") is values


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])
def test_what_counts_as_missing(value: Any) -> None:
    assert is_missing(value)


@pytest.mark.parametrize("value", [0, "", False, "nan", [], 1.0])
def test_what_does_not_count_as_missing(value: Any) -> None:
    assert not is_missing(value)


@pytest.mark.parametrize("dtype", dtypes.DTYPES, ids=lambda dtype: dtype.name)
def test_every_type_takes_itself(dtype: DType) -> None:
    values = np.array(["a"], object) if dtype.is_string else np.array([1], dtype.numpy)

    assert fit(values, dtype, "tensor 'x'", dtype.name) is values
