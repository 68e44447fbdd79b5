"""Estimators that scikit-learn runs in float64 stay in float64. float32 would differ by about 1e-7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    LinearRegression,
    LogisticRegression,
    Ridge,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from support.boosted_models import cancer, diabetes
from support.local_runs import deploy, mixed_frame, save_sklearn


def test_a_linear_model_stays_in_float64(tmp_path: Path) -> None:
    """A float32 graph would differ by about 1e-7."""
    frame, target = diabetes()

    deployed = deploy(save_sklearn(tmp_path / "model", Ridge().fit(frame, target), frame))

    deployed.assert_equals_pyfunc(frame, within=1e-14)


@pytest.mark.parametrize("first", ["text", "numbers"])
def test_text_and_numbers_stay_in_float64_in_any_order(first: str, tmp_path: Path) -> None:
    """skl2onnx derives the type of its outputs from the first column."""
    frame, labels = mixed_frame()
    parts = [("text", OneHotEncoder(), ["colour"]), ("numbers", StandardScaler(), ["alcohol", "proline"])]
    columns = ColumnTransformer(parts if first == "text" else parts[::-1])
    estimator = make_pipeline(columns, LogisticRegression()).fit(frame, labels)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn="predict_proba"))

    deployed.assert_equals_pyfunc(frame, within=1e-14)


@pytest.mark.slow
def test_histogram_boosting_goes_the_same_way_for_gaps(tmp_path: Path) -> None:
    frame, labels = cancer()
    gaps = frame.mask(np.random.default_rng(1).random(frame.shape) < 0.2)
    estimator = HistGradientBoostingClassifier(max_iter=20).fit(gaps, labels)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc_exactly(gaps)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [BaggingClassifier, OneVsRestClassifier, CalibratedClassifierCV])
def test_several_of_histogram_boosting_in_one_model(kind: Any, tmp_path: Path) -> None:
    frame, labels = cancer()
    inner = HistGradientBoostingClassifier(max_iter=5)
    estimator = kind(inner).fit(frame, labels)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn="predict_proba"))

    deployed.assert_equals_pyfunc(frame)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", [BayesianRidge, ARDRegression, LinearRegression, Ridge])
def test_linear_regressors_stay_in_float64_without_an_intercept(kind: Any, *, intercept: bool, tmp_path: Path) -> None:
    frame, target = diabetes()
    estimator = kind(fit_intercept=intercept).fit(frame, target)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc(frame, within=1e-14)
    assert deployed.deployable.notes == ()


def test_chosen_columns_of_integers_keep_every_digit(tmp_path: Path) -> None:
    frame = pd.DataFrame({name: np.random.default_rng(1).integers(0, 9, 60) for name in "abc"})
    estimator = SelectKBest(k=2).fit(frame, frame["a"] > 4)
    large = pd.DataFrame({name: [2**53 + 1, -(2**62) - 1] for name in "abc"})

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    assert deployed.predict(large).tolist() == estimator.transform(large).tolist()


def test_a_probability_keeps_its_digits_however_small_it_is(tmp_path: Path) -> None:
    """ONNX Runtime's Sigmoid gives 0 in float64 where scikit-learn gives 1e-130."""
    frame, labels = cancer()
    chosen = frame[["mean radius"]]
    estimator = LogisticRegression().fit(chosen, labels)
    far = pd.DataFrame({"mean radius": [float((-300 - estimator.intercept_[0]) / estimator.coef_[0, 0])]})

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, chosen, pyfunc_predict_fn="predict_log_proba"))

    np.testing.assert_allclose(deployed.predict(far), estimator.predict_log_proba(far), rtol=1e-12)
    assert estimator.predict_log_proba(far)[0, 1] == pytest.approx(-300)
