"""Missing text, text that is unknown, columns that no step reads, and columns named by numbers: as pyfunc has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from redisai_engine.codec.envelopes import Document
from redisai_engine.codec.errors import InputMismatch
from support.local_runs import Deployed, deploy, save_sklearn

NAN = float("nan")
COUNT = 60


def text(*values: Any) -> Any:
    """Return a column of these values, over and over. As objects, because pandas 3 makes NaN of None in text."""
    return pd.Series([values[index % len(values)] for index in range(COUNT)], dtype=object)


WHOLE = text("S", "C", "Q", "S", "S")
WITH_NONE = text("S", "C", None, "Q", "S")
WITH_NAN = text("S", "C", NAN, "Q", "S")
TRAINED = {"whole": WHOLE, "None": WITH_NONE, "NaN": WITH_NAN}
ASKED = {**TRAINED, "both": text("S", None, NAN, "Q"), "unknown": text("S", "X", None, ""), "none at all": text(None)}

STEPS = {
    "one-hot": OneHotEncoder(handle_unknown="ignore"),
    "one-hot that raises": OneHotEncoder(),
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
    "ordinal that raises": OrdinalEncoder(encoded_missing_value=-2),
    "most frequent": make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
    "constant": make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(handle_unknown="ignore")
    ),
    "most frequent, then raises": make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
    "None is missing": make_pipeline(
        SimpleImputer(missing_values=None, strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    ),
    "a word is missing": make_pipeline(
        SimpleImputer(missing_values="S", strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    ),
}


def frame(port: Any) -> pd.DataFrame:
    return pd.DataFrame({"port": port, "fare": np.linspace(0, 9, COUNT)})


def assert_same_or_both_refuse(deployed: Deployed, rows: pd.DataFrame) -> None:
    """Where pyfunc raises an error for rows, so must we; where it answers, we give the same answer."""
    try:
        deployed.expected(rows)
    except Exception:
        with pytest.raises(InputMismatch, match="column 'port' "):
            deployed.predict(rows)
        return
    deployed.assert_equals_pyfunc(rows)


@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("step", STEPS)
def test_every_text_is_answered_or_refused_as_by_pyfunc(step: str, trained: str, tmp_path: Path) -> None:
    columns = ColumnTransformer([("port", STEPS[step], ["port"])], remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression())
    rows = frame(TRAINED[trained])
    try:
        model.fit(rows, np.arange(COUNT) % 2)
    except ValueError:
        pytest.skip("scikit-learn itself can't be trained on it")

    deployed = deploy(save_sklearn(tmp_path / "m", model, rows, pyfunc_predict_fn="predict_proba"))

    for asked in ASKED.values():
        for part in (frame(asked), frame(asked)[:1], frame(asked)[2:3], frame(asked).dropna()):
            if len(part):
                assert_same_or_both_refuse(deployed, part)


@pytest.mark.parametrize("rows", [["S", None, "Q"], [None, "C"], [None]], ids=str)
def test_a_null_in_json_is_what_pandas_makes_of_it(rows: list[Any], tmp_path: Path) -> None:
    columns = ColumnTransformer([("port", OneHotEncoder(handle_unknown="ignore"), ["port"])], remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression()).fit(frame(WITH_NAN), np.arange(COUNT) % 2)
    deployed = deploy(save_sklearn(tmp_path / "m", model, frame(WHOLE), pyfunc_predict_fn="predict_proba"))
    records = [{"port": port, "fare": 1.5} for port in rows]

    answer = deployed.predict(Document({"dataframe_records": records}))

    np.testing.assert_allclose(answer, deployed.expected(pd.DataFrame(records)))


class TestColumnsThatNoStepReads:
    ROWS = pd.DataFrame(
        {
            "at": pd.date_range("2024-01-01", periods=COUNT),
            "id": text("x", "y"),
            "raw": text(b"\x00", b"\x01"),
            "count": np.arange(COUNT),
            "v": np.linspace(-1, 1, COUNT),
        }
    )
    SCALED = ("v", StandardScaler(), ["v"])
    STEPS: ClassVar = {
        "by name": ColumnTransformer([SCALED]),
        "by position": ColumnTransformer([("v", StandardScaler(), [4])]),
        "by slice": ColumnTransformer([("v", StandardScaler(), slice(4, 5))]),
        "dropped": ColumnTransformer([("gone", "drop", ["at", "id", "raw", "count"])], remainder=StandardScaler()),
        "in a union": FeatureUnion(
            [("a", ColumnTransformer([("v", "passthrough", ["v"])])), ("b", ColumnTransformer([SCALED]))]
        ),
    }

    @pytest.mark.parametrize("example", [3, 0], ids=["example", "no example"])
    @pytest.mark.parametrize("step", STEPS)
    def test_they_may_have_any_type_and_gaps(self, step: str, example: int, tmp_path: Path) -> None:
        model = make_pipeline(self.STEPS[step], LogisticRegression()).fit(self.ROWS, self.ROWS["v"] > 0)

        deployed = deploy(save_sklearn(tmp_path / "m", model, self.ROWS, example_rows=example))

        assert len(deployed.mapping.inputs) == 1
        deployed.assert_equals_pyfunc(self.ROWS)
        deployed.assert_equals_pyfunc(self.ROWS.assign(id=None, raw=None, at=pd.NaT))

    def test_they_must_be_there_and_numbers_must_be_numbers(self, tmp_path: Path) -> None:
        model = make_pipeline(self.STEPS["by name"], LogisticRegression()).fit(self.ROWS, self.ROWS["v"] > 0)
        deployed = deploy(save_sklearn(tmp_path / "m", model, self.ROWS))

        for rows in (self.ROWS.drop(columns="at"), self.ROWS.assign(count="x"), self.ROWS.assign(count=1.5)):
            with pytest.raises(Exception, match=r"at|count"):
                deployed.expected(rows)
            with pytest.raises(InputMismatch, match=r"at|count"):
                deployed.predict(rows)


@pytest.mark.parametrize("fitted_on", ["frame", "array"])
def test_columns_named_by_numbers_are_found_as_by_pyfunc(fitted_on: str, tmp_path: Path) -> None:
    rows = pd.DataFrame(np.random.default_rng(5).normal(size=(COUNT, 6)))[[0, 2, 5]]
    model = LinearRegression().fit(rows if fitted_on == "frame" else rows.to_numpy(), rows[0] - rows[5])

    deployed = deploy(save_sklearn(tmp_path / "m", model, rows))

    deployed.assert_equals_pyfunc(rows)
    deployed.assert_equals_pyfunc(rows[[5, 0, 2]])
    deployed.assert_equals_pyfunc(rows.assign(more=1.0))
    renamed = rows.rename(columns=str)
    with pytest.raises(Exception, match="missing inputs"):
        deployed.expected(renamed)
    with pytest.raises(InputMismatch, match="columns 0, 2, 5 are missing"):
        deployed.predict(renamed)


@pytest.mark.parametrize("value", [1e39, -1e39, float("inf"), NAN, 3.4e38])
def test_a_number_that_a_forest_refuses_is_refused(value: float, tmp_path: Path) -> None:
    rows = pd.DataFrame({"port": np.linspace(-3, 3, COUNT), "fare": np.linspace(0, 9, COUNT)})
    forest = RandomForestClassifier(3, random_state=0).fit(rows, np.arange(COUNT) % 2)
    deployed = deploy(save_sklearn(tmp_path / "m", forest, rows))

    assert_same_or_both_refuse(deployed, rows.assign(port=value))
