"""Ensembles of any estimators vote and average as scikit-learn does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from mlflow_redisai.errors import NotConvertible
from redisai_engine.protocol import dtypes
from support.local_runs import deploy, save_sklearn

MEMBERS = [("vectors", SVC()), ("bayes", GaussianNB()), ("tree", DecisionTreeClassifier(max_depth=2, random_state=0))]
SOFT = [("bayes", GaussianNB()), ("forest", RandomForestClassifier(4, max_depth=3, random_state=0))]

KINDS: dict[str, Any] = {
    "hard": VotingClassifier(MEMBERS),
    "hard with weights": VotingClassifier(MEMBERS, weights=[1, 2, 1]),
    "hard, of lines": VotingClassifier([("vectors", LinearSVC()), ("ridge", RidgeClassifier())]),
    "a bag of lines": BaggingClassifier(Perceptron(), n_estimators=4, random_state=0),
    "soft": VotingClassifier(SOFT, voting="soft"),
    "soft with weights": VotingClassifier(SOFT, voting="soft", weights=[1, 2]),
    "boosted stumps": AdaBoostClassifier(n_estimators=12, random_state=0),
    "boosted trees": AdaBoostClassifier(DecisionTreeClassifier(max_depth=3), n_estimators=12, random_state=0),
    "a bag of labels": BaggingClassifier(SVC(), n_estimators=4, max_features=0.5, random_state=0),
    "a bag of probabilities": BaggingClassifier(LogisticRegression(), n_estimators=6, random_state=0),
    "a bag of pipelines": BaggingClassifier(
        make_pipeline(StandardScaler(), LogisticRegression()), n_estimators=4, random_state=0
    ),
}


def rows(count: int) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(count).integers(0, 5, (count, 4)).astype(float), columns=list("abcd"))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_labels(kind: str, classes: int, tmp_path: Path) -> None:
    frame = rows(200)
    labels = np.random.default_rng(1).choice(np.array(["no", "so", "yes"])[:classes], 200)
    estimator = KINDS[kind].fit(frame, labels)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc_exactly(frame)
    deployed.assert_equals_pyfunc_exactly(rows(3_000))


@pytest.mark.parametrize("function", ["predict", "predict_proba"])
def test_several_targets_of_text(function: str, tmp_path: Path) -> None:
    frame = rows(200)
    labels = np.column_stack([np.where(frame.a > 2, "yes", "no"), np.where(frame.b > 3, "hi", "lo")]).astype(object)
    estimator = MultiOutputClassifier(LogisticRegression()).fit(frame, labels)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn=function))

    deployed.assert_equals_pyfunc(rows(1_000))


@pytest.mark.parametrize("kind", ["hard, of lines", "a bag of lines"])
def test_lines_in_an_ensemble_are_not_rounded(kind: str, tmp_path: Path) -> None:
    """skl2onnx has them in float32 only, which can't hold all numbers that scikit-learn takes."""
    frame = rows(200)
    estimator = KINDS[kind].fit(frame, np.random.default_rng(1).choice(["no", "so", "yes"], 200))

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    assert deployed.mapping.precision is dtypes.DOUBLE
    deployed.assert_equals_pyfunc_exactly(frame * 1e300)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("label", ["no", "yes"])
def test_a_threshold_that_was_tuned(label: str, method: str, tmp_path: Path) -> None:
    """The label is that of the threshold, whichever of the two classes it was found for."""
    target = np.where(np.asarray(rows(150)).sum(axis=1) > 9, "yes", "no")
    scoring = make_scorer(f1_score, pos_label=label)
    estimator = TunedThresholdClassifierCV(LogisticRegression(), scoring=scoring).fit(rows(150), target)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, rows(150), pyfunc_predict_fn=method))

    deployed.assert_equals_pyfunc(rows(150))


def test_a_threshold_for_scores_is_refused(tmp_path: Path) -> None:
    target = np.where(np.asarray(rows(150)).sum(axis=1) > 9, 1, 0)
    estimator = TunedThresholdClassifierCV(LinearSVC()).fit(rows(150), target)

    with pytest.raises(NotConvertible, match="use response_method='predict_proba'"):
        deploy(save_sklearn(tmp_path / "model", estimator, rows(150)))
