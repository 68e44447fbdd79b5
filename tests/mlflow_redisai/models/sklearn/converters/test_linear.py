"""Estimators that skl2onnx converts to float32 only stay in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Perceptron, RidgeClassifier
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.svm import LinearSVC

from redisai_engine.protocol import dtypes
from support.local_runs import deploy, save_sklearn

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 3)), columns=["a", "b", "c"])
TARGET = (FRAME.a * 2 + FRAME.b).to_numpy()


@pytest.mark.parametrize(
    "estimator",
    [LinearRegression(fit_intercept=False), Lasso(0.1, fit_intercept=False), LinearRegression()],
    ids=["line", "lasso", "with intercept"],
)
@pytest.mark.parametrize("targets", [TARGET, np.column_stack([TARGET, -TARGET])], ids=["a target", "two targets"])
def test_a_line_without_intercept(estimator: Any, targets: Any, tmp_path: Path) -> None:
    deployed = deploy(save_sklearn(tmp_path / "model", estimator.fit(FRAME, targets), FRAME))

    deployed.assert_equals_pyfunc(FRAME, within=1e-12)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_a_mixture(kind: Any, tmp_path: Path) -> None:
    estimator = GaussianMixture(3, covariance_type=kind, random_state=0).fit(FRAME)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, FRAME))

    assert deployed.mapping.precision is dtypes.DOUBLE
    deployed.assert_equals_pyfunc_exactly(FRAME)


@pytest.mark.parametrize("kind", [LinearSVC, RidgeClassifier, Perceptron, LogisticRegression])
@pytest.mark.parametrize("within", [OneVsRestClassifier, MultiOutputClassifier])
def test_a_classifier_for_each_class_or_target(kind: Any, within: Any, tmp_path: Path) -> None:
    labels = np.digitize(TARGET, [-1, 1])
    wanted = labels if within is OneVsRestClassifier else np.column_stack([labels, labels[::-1]])
    estimator = within(kind()).fit(FRAME, wanted)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, FRAME))

    deployed.assert_equals_pyfunc_exactly(FRAME)
    # Far from all classes, probabilities are equal where scores aren't.
    deployed.assert_equals_pyfunc_exactly(FRAME * 1e4)


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])
def test_clusters_of_rows_far_away(kind: Any, tmp_path: Path) -> None:
    """A distance of 1e20 has no digits left for the difference between two centres."""
    estimator = kind(5, n_init=1, random_state=0).fit(FRAME)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, FRAME))

    for size in (1e12, 1e100):
        deployed.assert_equals_pyfunc_exactly(FRAME * size)
