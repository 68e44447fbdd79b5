"""Chosen outputs are compared with the estimator's own methods, never with the graph converted from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestRegressor,
)
from sklearn.feature_selection import RFE
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from mlflow_redisai.deploy.verification import PASSED, verify
from mlflow_redisai.errors import NotConvertible
from support.local_runs import deploy, save_sklearn

pytestmark = pytest.mark.slow

CHOSEN: dict[str, tuple[Callable[[], Any], str, str, Callable[[Any, Any], Any]]] = {
    "labels": (LogisticRegression, "label", "predict", lambda one, rows: one.predict(rows)),
    "probabilities": (
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        "probabilities",
        "predict_proba",
        lambda one, rows: one.predict_proba(rows),
    ),
    "scores that the graph calls probabilities": (
        SVC,
        "probabilities",
        "decision_function",
        lambda one, rows: one.decision_function(rows),
    ),
    "scores of outliers": (
        lambda: IsolationForest(n_estimators=20, random_state=1),
        "scores",
        "decision_function",
        lambda one, rows: one.decision_function(rows)[:, None],
    ),
    "distances to centres": (
        lambda: KMeans(3, n_init=1, random_state=1),
        "scores",
        "transform",
        lambda one, rows: one.transform(rows),
    ),
    "numbers": (
        lambda: RandomForestRegressor(10, random_state=1),
        "variable",
        "predict",
        lambda one, rows: one.predict(rows)[:, None],
    ),
    "what a transformer makes": (lambda: PCA(2), "variable", "transform", lambda one, rows: one.transform(rows)),
    "neighbours": (
        lambda: NearestNeighbors(n_neighbors=3, radius=None),
        "distance",
        "kneighbors",
        lambda one, rows: one.kneighbors(rows)[0],
    ),
}


@pytest.mark.parametrize("kind", CHOSEN)
def test_the_answer_is_compared_with_the_method_that_gives_it(kind: str, tmp_path: Path) -> None:
    make, output, method, own = CHOSEN[kind]
    data = load_iris(as_frame=True)
    estimator = make().fit(data.data[::2], data.target[::2])

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, data.data), outputs=output)

    found = verify(deployed.run, deployed.deployable, deployed.model)
    assert (found.status, found.reference) == (PASSED, f"{type(estimator).__name__}'s own {method}")
    np.testing.assert_allclose(deployed.predict(data.data), own(estimator, data.data), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_of_scores_are_the_estimators_or_refused(classes: int, tmp_path: Path) -> None:
    """
    For right labels, such a classifier becomes a logistic regression, whose probabilities differ for three classes.

    Older versions of skl2onnx have no graph in which both are right.
    """
    data = load_iris(as_frame=True)
    target = np.minimum(data.target, classes - 1)
    estimator = SGDClassifier(loss="log_loss", random_state=1).fit(data.data, target)
    path = save_sklearn(tmp_path / "model", estimator, data.data)

    try:
        answer = deploy(path, outputs="probabilities").predict(data.data)
    except NotConvertible as refused:
        assert classes == 3  # two classes are the same
        assert "answers differently after conversion to ONNX" in refused.message  # noqa: PT017
    else:
        np.testing.assert_allclose(answer, estimator.predict_proba(data.data), rtol=1e-6, atol=1e-9)


def test_two_outputs_are_compared_with_two_methods(tmp_path: Path) -> None:
    data = load_breast_cancer(as_frame=True)
    estimator = make_pipeline(StandardScaler(), SVC()).fit(data.data, data.target)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, data.data), outputs="probabilities,label")

    found = verify(deployed.run, deployed.deployable, deployed.model)
    assert (found.status, found.reference) == (PASSED, "Pipeline's own decision_function and predict")
    scores = estimator.decision_function(data.data)
    answer = deployed.predict(data.data)
    np.testing.assert_allclose(answer["probabilities"], np.column_stack([scores, -scores]), atol=1e-5)


def test_an_output_of_one_of_several_targets(tmp_path: Path) -> None:
    data = load_iris(as_frame=True)
    targets = np.column_stack([data.target, data.target > 0])
    estimator = MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(data.data, targets)
    path = save_sklearn(tmp_path / "model", estimator, data.data, pyfunc_predict_fn="predict_proba")

    deployed = deploy(path, outputs="probabilities_1")

    assert verify(deployed.run, deployed.deployable, deployed.model).status == PASSED
    np.testing.assert_allclose(deployed.predict(data.data), estimator.predict_proba(data.data)[1], rtol=1e-6)


def test_a_chosen_output_that_is_converted_wrongly_is_refused(tmp_path: Path) -> None:
    """For the loss modified_huber, skl2onnx converts the labels rightly, and the probabilities not."""
    data = load_iris(as_frame=True)
    estimator = SGDClassifier(loss="modified_huber", random_state=0).fit(data.data, data.target)
    path = save_sklearn(tmp_path / "model", estimator, data.data)

    assert deploy(path, outputs="label").predict(data.data).tolist() == estimator.predict(data.data).tolist()
    with pytest.raises(NotConvertible, match="answers differently after conversion to ONNX: the largest difference"):
        deploy(path, outputs="probabilities")


def test_an_output_that_only_the_graph_has_is_never_said_to_be_verified(tmp_path: Path) -> None:
    data = load_breast_cancer(as_frame=True)
    estimator = make_pipeline(StandardScaler(), LinearSVC()).fit(data.data, data.target)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, data.data), outputs="probabilities")

    found = verify(deployed.run, deployed.deployable, deployed.model)
    assert found.status == "not verified: Pipeline itself has no method that gives 'probabilities'"
    assert (found.rows, found.difference, found.reference) == (3, None, None)
    assert found.notes == (found.status,)


def test_without_a_choice_pyfunc_is_what_is_compared_with(tmp_path: Path) -> None:
    data = load_iris(as_frame=True)
    scaled, reduced = StandardScaler(), PCA(2)
    paths = [
        save_sklearn(tmp_path / type(one).__name__, one.fit(data.data, data.target), data.data)
        for one in (make_pipeline(scaled, LogisticRegression()), reduced)
    ]

    kinds = [verify(one.run, one.deployable, one.model).reference for one in map(deploy, paths)]

    assert kinds == ["mlflow.pyfunc", "PCA's own transform"]


SCORED: dict[str, Callable[[], Any]] = {
    "boosted stumps": lambda: AdaBoostClassifier(n_estimators=5, random_state=1),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=5, random_state=1),
    "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=5, random_state=1),
    "linear vectors": lambda: make_pipeline(StandardScaler(), LinearSVC()),
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "ridge": RidgeClassifier,
    "vectors": SVC,
    "a search": lambda: GridSearchCV(RidgeClassifier(), {"alpha": [1, 2]}),
    "an elimination": lambda: RFE(RidgeClassifier(), n_features_to_select=2),
    "isolation": lambda: IsolationForest(n_estimators=5, random_state=1),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", SCORED)
def test_scores_that_the_model_was_logged_for(kind: str, classes: int, tmp_path: Path) -> None:
    """pyfunc calls no decision_function, so the estimator's own answer is the reference."""
    data = load_iris(as_frame=True)
    rows = data.data[data.target < classes]
    estimator = SCORED[kind]().fit(rows, data.target[: len(rows)])

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, rows, pyfunc_predict_fn="decision_function"))

    np.testing.assert_allclose(deployed.predict(rows), estimator.decision_function(rows), rtol=1e-6, atol=1e-9)
