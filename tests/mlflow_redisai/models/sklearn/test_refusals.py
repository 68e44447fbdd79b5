"""An estimator that can't be converted is named with its step and its options, before any library's own words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.feature_selection import RFE, RFECV, SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from mlflow_redisai.errors import NotConvertible
from redisai_engine.codec.errors import InputMismatch
from support.local_runs import deploy, save_sklearn

# Models that skl2onnx or ONNX Runtime fails at, each in its own way, with the step that fails and its options.
FAILING: dict[str, tuple[Any, str]] = {
    "a loss": (MLPRegressor(hidden_layer_sizes=(4,), loss="poisson", max_iter=5), "MLPRegressor with .*loss='poisson'"),
    "a distribution": (
        make_pipeline(QuantileTransformer(n_quantiles=9, output_distribution="normal"), LogisticRegression()),
        r"step quantiletransformer \(QuantileTransformer\) with n_quantiles=9, output_distribution='normal' has no",
    ),
    "a column beside others": (
        make_pipeline(
            ColumnTransformer([("a", StandardScaler(), [0])], remainder="passthrough"),
            ColumnTransformer([("b", StandardScaler(), [1])]),
            LogisticRegression(),
        ),
        r"step columntransformer-2 \(ColumnTransformer\) has no conversion",
    ),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", FAILING)
def test_the_step_that_fails_is_named_first(kind: str, tmp_path: Path) -> None:
    estimator, where = FAILING[kind]
    rows = _rows()
    target = rows["a"].abs() if kind == "a loss" else np.where(rows["a"] > 0, "yes", "no")
    path = save_sklearn(tmp_path / "model", estimator.fit(rows, target), rows)

    with pytest.raises(NotConvertible, match=where) as caught:
        deploy(path)

    said = caught.value.message
    assert re.search(r"has no conversion to ONNX that works; use .*another estimator in its place \(\w", said)
    assert "ONNXRuntimeError" not in said


def test_a_choice_of_no_column(tmp_path: Path) -> None:
    rows = _rows()
    estimator = make_pipeline(StandardScaler(), SelectKBest(k=0)).fit(rows, rows["a"] > 0)

    with pytest.raises(NotConvertible, match=r"step selectkbest \(SelectKBest\): it chooses no column"):
        deploy(save_sklearn(tmp_path / "model", estimator, rows))


@pytest.mark.parametrize("count", [1, 2])
def test_a_choice_of_few_columns(count: int, tmp_path: Path) -> None:
    rows = _rows()
    estimator = SelectKBest(k=count).fit(rows, rows["a"] > 0)

    answer = deploy(save_sklearn(tmp_path / "model", estimator, rows)).predict(rows)

    np.testing.assert_array_equal(answer, estimator.transform(rows))


def _rows() -> pd.DataFrame:
    drawn = np.random.default_rng(1).normal(size=(60, 3))
    return pd.DataFrame(drawn, columns=["a", "b", "c"])


# -- a choice of columns that answers as its estimator does ---------------------------------------


SELECTORS: dict[str, Any] = {
    "RFE": RFE(LogisticRegression(), n_features_to_select=2),
    "RFECV": RFECV(DecisionTreeClassifier(max_depth=1, random_state=1), cv=2),
    "RFE as last step": make_pipeline(StandardScaler(), RFE(LogisticRegression())),
}


@pytest.mark.parametrize("function", ["predict", "predict_proba", "predict_log_proba", "transform"])
@pytest.mark.parametrize("kind", ["RFE", "RFECV", "RFE as last step"])
def test_an_elimination_of_columns(kind: str, function: str, tmp_path: Path) -> None:
    estimator, rows = SELECTORS[kind], _rows()
    noise = np.random.default_rng(2).normal(size=len(rows))
    estimator.fit(rows, np.where(rows["a"] + noise > 0, "yes", "no"))

    answer = deploy(save_sklearn(tmp_path / "model", estimator, rows, pyfunc_predict_fn=function)).predict(rows)

    expected = getattr(estimator, function)(rows)
    if function == "predict":
        np.testing.assert_array_equal(answer, expected)
    else:
        np.testing.assert_allclose(answer, expected, rtol=1e-9)


def test_an_elimination_of_columns_before_another_step(tmp_path: Path) -> None:
    rows = _rows()
    estimator = make_pipeline(StandardScaler(), RFE(LogisticRegression()), LogisticRegression())
    estimator.fit(rows, np.where(rows["a"] > 0, "yes", "no"))
    path = save_sklearn(tmp_path / "model", estimator, rows, pyfunc_predict_fn="predict_proba")

    deploy(path).assert_equals_pyfunc(rows, within=1e-9)


@pytest.mark.parametrize("function", ["predict", "decision_function", "transform"])
def test_an_elimination_refuses_gaps_in_columns_that_it_leaves_out(function: str, tmp_path: Path) -> None:
    rows = _rows()
    estimator = RFE(LogisticRegression(), n_features_to_select=1).fit(rows, rows["a"] > 0)
    path = save_sklearn(tmp_path / "model", estimator, rows, pyfunc_predict_fn=function)
    left_out = rows.columns[~estimator.support_][0]

    with pytest.raises(InputMismatch, match=f"column '{left_out}' has a value in row 0 that is missing"):
        deploy(path).predict(rows.assign(**{left_out: np.nan}))


@pytest.mark.parametrize(
    "estimator",
    [
        VotingClassifier([("vectors", SVC()), ("line", LogisticRegression())], voting="soft"),
        KNeighborsClassifier(n_neighbors=None),
    ],
    ids=["votes of one without probabilities", "no number of neighbours"],
)
def test_a_model_that_refuses_its_own_example(estimator: Any, tmp_path: Path) -> None:
    """It can be fitted, and fails whenever it is asked."""
    rows = _rows()
    path = save_sklearn(tmp_path / "model", estimator.fit(rows, rows["a"] > 0), rows)

    with pytest.raises(NotConvertible, match="refuses its own input example"):
        deploy(path)
