"""What a model refuses is found by asking it, column by column, for real estimators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.trials.contracts import check_refusals, learned, with_missing_text
from redisai_engine.codec.mapping import Field, Schema
from redisai_engine.protocol import dtypes

NUMBERS = Schema("columns", (Field("a", "double", dtypes.DOUBLE), Field("b", "double", dtypes.DOUBLE)))
MIXED = Schema("columns", (Field("size", "string", dtypes.STRING), Field("price", "double", dtypes.DOUBLE)))
FLOAT32 = float(np.finfo(np.float32).max)

ROWS = pd.DataFrame({"a": np.linspace(-3, 3, 20), "b": np.linspace(5, 1, 20)})
TEXT = pd.DataFrame({"size": np.array(["s", "m", "l", "xl"] * 5, object), "price": np.linspace(1, 9, 20)})
PLAIN = LogisticRegression()
TARGET = np.arange(20) % 2


def answers(model: Any) -> Callable[[Any], bool]:
    def asked(rows: Any) -> bool:
        try:
            model.predict(rows)
        except Exception:
            return False
        return True

    return asked


def contract(model: Any, schema: Schema, rows: pd.DataFrame, categories: Any = None) -> list[Field]:
    return list(learned(schema, rows, answers(model.fit(rows, TARGET)), categories or {}).fields)


def with_text(encoder: Any) -> Any:
    columns = ColumnTransformer([("size", encoder, ["size"])], remainder="passthrough")
    return make_pipeline(columns, LogisticRegression())


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (LogisticRegression(), [{"gaps": False, "infinite": False}] * 2),
        (HistGradientBoostingClassifier(), [{}] * 2),
        (
            make_pipeline(
                ColumnTransformer([("a", SimpleImputer(), ["a"])], remainder="passthrough"), LogisticRegression()
            ),
            [{"infinite": False, "largest": 1e300}, {"gaps": False, "infinite": False, "largest": 1e300}],
        ),
        (RandomForestClassifier(3), [{"infinite": False, "largest": FLOAT32}] * 2),
    ],
    ids=["refuses both", "takes all", "one column may have gaps", "reads float32"],
)
def test_numbers(model: Any, changes: list[dict[str, Any]]) -> None:
    expected = [replace(item, **change) for item, change in zip(NUMBERS.fields, changes, strict=True)]

    assert contract(model, NUMBERS, ROWS) == expected


@pytest.mark.parametrize("kind", ["float64", "float32", "int64"])
@pytest.mark.parametrize(
    ("function", "floats", "whole"),
    [(np.log, 5e-324, 1), (np.log1p, -1 + 2**-53, 0), (np.sqrt, 0.0, 0), (np.exp, None, None)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_least_number_is_found_exactly(function: Any, floats: Any, whole: Any, kind: str) -> None:
    """A logistic regression refuses what the step before made infinite or NaN."""
    dtype = {"float64": dtypes.DOUBLE, "float32": dtypes.FLOAT, "int64": dtypes.INT64}[kind]
    schema = Schema("columns", (Field("a", kind, dtype),))
    rows = pd.DataFrame({"a": np.arange(1, 21).astype(kind)})
    steps = ColumnTransformer([("a", FunctionTransformer(function), ["a"])])
    expected = whole if kind == "int64" else floats
    if kind == "float32" and expected is not None:
        with np.errstate(all="ignore"):
            expected = {np.log: 1.401298464324817e-45, np.log1p: -1 + 2.0**-24, np.sqrt: 0.0}[function]

    with np.errstate(all="ignore"):
        [found] = contract(make_pipeline(steps, LogisticRegression()), schema, rows)

    assert found.least == expected


class TestText:
    CATEGORIES: ClassVar = {0: np.array(["l", "m", "s", "xl"], object)}

    def test_an_encoder_that_raises_for_unknown_text_has_known_values(self) -> None:
        size, _ = contract(with_text(OrdinalEncoder()), MIXED, TEXT, self.CATEGORIES)

        assert (size.known, size.missing) == (("l", "m", "s", "xl"), ())

    def test_an_encoder_that_ignores_unknown_text_takes_anything(self) -> None:
        size, _ = contract(with_text(OneHotEncoder(handle_unknown="ignore")), MIXED, TEXT, self.CATEGORIES)

        assert (size.known, size.missing) == (None, ("None", "NaN"))

    def test_none_can_be_a_category_where_nan_is_not(self) -> None:
        rows = TEXT.assign(size=pd.Series(["s", None, "l", "xl"] * 5, dtype=object))

        size, _ = contract(with_text(OneHotEncoder()), MIXED, rows, {0: np.array(["l", "s", "xl"], object)})

        assert (size.known, size.missing) == (("l", "s", "xl"), ("None",))

    def test_a_column_that_two_encoders_read_has_what_both_know(self) -> None:
        both = ColumnTransformer(
            [
                ("few", OneHotEncoder(categories=[["s", "m", "l", "xl"]]), ["size"]),
                ("more", OneHotEncoder(categories=[["s", "m", "l", "xl", "xxl"]]), ["size"]),
            ]
        )
        known = {0: np.array(["s", "m", "l", "xl", "xxl"], object)}

        size, _ = contract(make_pipeline(both, LogisticRegression()), MIXED, TEXT, known)

        assert size.known == ("s", "m", "l", "xl")

    def test_what_no_contract_expresses_is_refused(self) -> None:
        with pytest.raises(
            NotConvertible, match="refuses some values of column 'size' and its encoders don't say which"
        ):
            contract(with_text(OrdinalEncoder()), MIXED, TEXT)


def test_categories_may_be_numbers() -> None:
    rows = ROWS.assign(a=np.arange(20) % 3)
    schema = Schema("columns", (Field("a", "long", dtypes.INT64), NUMBERS.fields[1]))
    model = make_pipeline(ColumnTransformer([("a", OneHotEncoder(), ["a"])]), LogisticRegression())

    found, _ = contract(model, schema, rows, {0: np.arange(3)})

    assert found.known == (0, 1, 2)


def test_a_model_that_answers_nothing_shows_nothing() -> None:
    assert learned(NUMBERS, ROWS, lambda rows: False, {}) == NUMBERS


def test_trials_get_missing_text_where_it_is_accepted() -> None:
    schema = Schema("columns", (replace(MIXED.fields[0], missing=("None", "NaN")), MIXED.fields[1]))

    first, second = with_missing_text(schema, TEXT)

    assert first["size"][0] is None
    assert np.isnan(second["size"][0])


def test_rows_that_are_refused_as_a_whole_are_no_conversion() -> None:
    def answers_small_sums(rows: Any) -> bool:
        return bool((rows["a"] + rows["b"] < 7).all())

    with pytest.raises(NotConvertible, match=r"refuses the row \{'a': 4.0, 'b': 4.0\}, and a deployment can't"):
        check_refusals(NUMBERS, pd.DataFrame({"a": [1.0, 4.0], "b": [1.0, 4.0]}), answers_small_sums)


def test_rows_that_a_contract_refuses_are_let_be() -> None:
    schema = Schema("columns", tuple(replace(item, gaps=False) for item in NUMBERS.fields))

    check_refusals(schema, ROWS.assign(a=np.nan), lambda rows: not rows.isna().any(axis=None))


class TestWideFrames:
    """Columns are asked about in groups, so that a wide frame costs few calls, and nothing else is learned."""

    WIDTH = 200
    SCHEMA = Schema("columns", tuple(Field(f"c{index}", "double", dtypes.DOUBLE) for index in range(WIDTH)))
    FRAME = pd.DataFrame({f"c{index}": np.linspace(-1, 1, 20) for index in range(WIDTH)})

    def learned_of(self, refuses: Callable[[np.ndarray], Any]) -> tuple[tuple[Field, ...], int]:
        """Return what is learned of a model, which `refuses` some of the cells, and how often it was asked."""
        calls = []

        def asked(rows: pd.DataFrame) -> bool:
            calls.append(len(rows))
            return not refuses(rows.to_numpy()).any()

        return learned(self.SCHEMA, self.FRAME, asked, {}).fields, len(calls)

    @pytest.mark.parametrize("filled", [[], [0], [199], [7, 8, 9, 150], list(range(100)), list(range(0, 200, 3))])
    def test_each_column_that_refuses_gaps_is_found(self, filled: list[int]) -> None:
        refusing = np.setdiff1d(np.arange(self.WIDTH), filled)

        found, _ = self.learned_of(lambda cells: np.isnan(cells[:, refusing]))

        assert [index for index, item in enumerate(found) if item.gaps] == filled

    def test_a_model_that_refuses_few_columns_is_asked_seldom(self) -> None:
        found, calls = self.learned_of(lambda cells: np.isnan(cells[:, [20, 21, 170]]))

        assert [index for index, item in enumerate(found) if not item.gaps] == [20, 21, 170]
        assert calls < 60

    def test_a_model_that_refuses_infinity_everywhere_is_asked_seldom(self) -> None:
        found, calls = self.learned_of(np.isinf)

        assert {(item.gaps, item.infinite, item.largest) for item in found} == {(True, False, None)}
        assert calls < 60


@pytest.mark.parametrize(("function", "largest"), [(np.exp, np.log(np.finfo(float).max)), (np.exp2, 1024.0)])
def test_the_largest_argument_of_an_exponential_is_found_closely(function: Any, largest: float) -> None:
    steps = ColumnTransformer([("a", FunctionTransformer(function), ["a"])], remainder="passthrough")
    model = make_pipeline(steps, LogisticRegression())

    with np.errstate(all="ignore"):
        first, second = contract(model, NUMBERS, ROWS)

    assert first.largest is not None
    assert 0.998 * largest < first.largest < largest
    assert second.largest is None or second.largest >= 1e300


def test_each_of_a_few_columns_has_a_largest_number_of_its_own() -> None:
    """The square of one overflows beyond 1e154. Another is taken as it is."""
    steps = ColumnTransformer([("a", FunctionTransformer(np.square), ["a"])], remainder="passthrough")
    model = make_pipeline(steps, LogisticRegression())

    with np.errstate(all="ignore"):
        first, second = contract(model, NUMBERS, ROWS)

    assert first.largest is not None
    assert first.largest < 1e154
    assert second.largest is None or second.largest >= 1e300


def test_a_limit_of_negative_numbers_alone_leaves_the_positive_ones() -> None:
    """A power of what is negative overflows where that of a positive number doesn't."""

    def asked(rows: pd.DataFrame) -> bool:
        return bool((rows["a"] > -1e20).all())

    a, b = learned(NUMBERS, ROWS, asked, {}).fields

    assert a.largest is None
    assert a.least == -1e15
    assert (b.least, b.largest) == (None, None)
