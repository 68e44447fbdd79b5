"""Neighbours of every metric count as in scikit-learn, also where their distance is exactly the radius."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)

from mlflow_redisai.errors import NotConvertible
from support.local_runs import Deployed, deploy, save_sklearn

RANDOM = np.random.default_rng(5)
FRAME = pd.DataFrame(RANDOM.normal(size=(120, 3)), columns=["a", "b", "c"])
#: Whole numbers, so that many distances are exactly one, and some columns are zero, which stands for false.
WHOLE = pd.DataFrame(RANDOM.integers(0, 3, (120, 3)).astype(float), columns=["a", "b", "c"])
NUMBER = (FRAME.a * 2 + FRAME.b).to_numpy()
LABEL = np.array(["low", "mid", "high"])[np.digitize(NUMBER, [-1, 1])]

OF_NUMBERS = ["euclidean", "manhattan", "chebyshev", "canberra", "cosine", "sqeuclidean"]
OF_TRUTHS = ["jaccard", "rogerstanimoto", "russellrao", "yule", "hamming"]


@pytest.mark.parametrize("metric", ["canberra", "braycurtis"])
def test_a_metric_by_which_all_rows_are_equally_far_from_a_row_of_zeros_is_refused(metric: str, tmp_path: Path) -> None:
    estimator = KNeighborsRegressor(4, metric=metric).fit(FRAME, NUMBER)

    with pytest.raises(NotConvertible, match="answers differently after conversion"):
        _deployed(tmp_path, estimator, FRAME)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("metric", [each for each in OF_NUMBERS if each != "canberra"])
def test_the_nearest_by_a_metric(metric: str, weights: Any, tmp_path: Path) -> None:
    estimator = KNeighborsRegressor(4, weights=weights, metric=metric).fit(FRAME, NUMBER)

    _deployed(tmp_path, estimator, FRAME).assert_equals_pyfunc(_rows(), within=1e-9)


@pytest.mark.parametrize("p", [1, 2, 3, 1.5])
def test_the_nearest_by_a_power(p: float, tmp_path: Path) -> None:
    estimator = KNeighborsClassifier(5, p=p, weights="distance").fit(FRAME, LABEL)

    _deployed(tmp_path, estimator, FRAME).assert_equals_pyfunc_exactly(_rows())


def test_a_training_row_is_its_own_neighbour(tmp_path: Path) -> None:
    """By distance, a row that is a training row counts alone, however near the others are."""
    estimator = KNeighborsClassifier(5, weights="distance").fit(FRAME, LABEL)

    deployed = _deployed(tmp_path, estimator, FRAME, pyfunc_predict_fn="predict_proba")

    deployed.assert_equals_pyfunc(FRAME, within=1e-9)
    assert (deployed.predict(FRAME).max(axis=1) == 1).all()


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_the_graph_of_the_nearest(mode: Any, tmp_path: Path) -> None:
    """Its answer is a sparse matrix in scikit-learn, and an array with the same numbers here."""
    estimator = KNeighborsTransformer(mode=mode, n_neighbors=3).fit(FRAME)

    answer = _deployed(tmp_path, estimator, FRAME, pyfunc_predict_fn="transform").predict(_rows())

    np.testing.assert_allclose(answer, estimator.transform(_rows()).toarray(), rtol=1e-12)


@pytest.mark.parametrize("metric", [*OF_NUMBERS, *OF_TRUTHS])
@pytest.mark.parametrize("kind", [RadiusNeighborsRegressor, RadiusNeighborsClassifier])
def test_neighbours_at_exactly_the_radius(kind: Any, metric: str, tmp_path: Path) -> None:
    options = {"outlier_label": "most_frequent"} if kind is RadiusNeighborsClassifier else {}
    radius = 1.0 if metric in OF_NUMBERS[:3] else 0.5
    estimator = kind(radius, metric=metric, **options).fit(WHOLE + 1 if metric in OF_NUMBERS else WHOLE, _target(kind))
    rows = WHOLE[::-1].reset_index(drop=True) + (metric in OF_NUMBERS)

    _deployed(tmp_path, estimator, rows).assert_equals_pyfunc(rows)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("label", ["most_frequent", "odd"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_a_row_without_neighbours(weights: Any, label: str, method: str, tmp_path: Path) -> None:
    estimator = RadiusNeighborsClassifier(0.3, weights=weights, outlier_label=label).fit(FRAME, LABEL)
    far = pd.concat([FRAME[:5], FRAME[:5] + 100], ignore_index=True)

    _deployed(tmp_path, estimator, FRAME, pyfunc_predict_fn=method).assert_equals_pyfunc(far)


def test_a_number_without_neighbours_is_none(tmp_path: Path) -> None:
    estimator = RadiusNeighborsRegressor(0.3, weights="distance").fit(FRAME, NUMBER)

    deployed = _deployed(tmp_path, estimator, FRAME)

    deployed.assert_equals_pyfunc(_rows(), within=1e-9)
    assert np.isnan(deployed.predict(FRAME[:5] + 100)).all()


def test_a_classifier_that_fails_without_neighbours_is_refused(tmp_path: Path) -> None:
    estimator = RadiusNeighborsClassifier(0.3).fit(FRAME, LABEL)

    with pytest.raises(NotConvertible, match=r"row without neighbours.*use outlier_label"):
        _deployed(tmp_path, estimator, FRAME)


def test_weights_by_a_function_are_refused(tmp_path: Path) -> None:
    estimator = KNeighborsRegressor(weights=np.exp).fit(FRAME, NUMBER)

    with pytest.raises(NotConvertible, match="weights=exp can't be converted"):
        _deployed(tmp_path, estimator, FRAME)


def _deployed(path: Path, estimator: Any, frame: pd.DataFrame, **options: Any) -> Deployed:
    return deploy(save_sklearn(path / "model", estimator, frame, **options))


def _rows() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(6).normal(size=(300, 3)) * 1.5, columns=list("abc"))


def _target(kind: Any) -> Any:
    return LABEL if kind is RadiusNeighborsClassifier else NUMBER
