"""Estimators that also predict are asked for transform, alone and as a step before others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    RandomTreesEmbedding,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, OneHotEncoder, StandardScaler

from support.local_runs import deploy, save_sklearn

FRAME = pd.DataFrame(np.random.default_rng(7).normal(size=(200, 3)), columns=["a", "b", "c"])
NUMBER = (FRAME.a * 2 + FRAME.b).to_numpy()
LABEL = np.array(["low", "mid", "high"])[np.digitize(NUMBER, [-1, 1])]
YES = NUMBER > 0.1
TWO: list[tuple[str, Any]] = [("line", LogisticRegression()), ("bayes", GaussianNB())]
NUMBERS: list[tuple[str, Any]] = [("one", Ridge()), ("other", Ridge(10))]

TRANSFORMING: dict[str, tuple[Any, Any]] = {
    "clusters": (KMeans(4, n_init=1, random_state=0), None),
    "discriminants": (LinearDiscriminantAnalysis(), LABEL),
    "discriminants by eigenvalues": (LinearDiscriminantAnalysis(solver="eigen", n_components=1), LABEL),
    "votes": (VotingClassifier(TWO), LABEL),
    "votes with probabilities": (VotingClassifier(TWO, voting="soft"), LABEL),
    "an average": (VotingRegressor(NUMBERS), NUMBER),
    "a stack": (StackingClassifier(TWO, cv=2), LABEL),
    "a stack for yes and no": (StackingClassifier(TWO, cv=2, passthrough=True), YES),
    "a stack of labels": (StackingClassifier(TWO, cv=2, stack_method="predict"), LABEL),
    "a stack of numbers": (StackingRegressor(NUMBERS, cv=2, passthrough=True), NUMBER),
}


@pytest.mark.parametrize("name", TRANSFORMING)
@pytest.mark.parametrize("around", ["alone", "behind a step", "in a union", "for some columns"])
def test_an_estimator_that_also_predicts(around: str, name: str, tmp_path: Path) -> None:
    estimator, target = TRANSFORMING[name]
    built = {
        "alone": estimator,
        "behind a step": make_pipeline(StandardScaler(), estimator),
        "in a union": FeatureUnion([("inner", estimator), ("scaled", StandardScaler())]),
        "for some columns": ColumnTransformer([("inner", estimator, ["c", "a"])], remainder="passthrough"),
    }[around]
    built.fit(FRAME, target)

    deployed = deploy(save_sklearn(tmp_path / "model", built, FRAME, pyfunc_predict_fn="transform"))

    rows = FRAME[::-1].reset_index(drop=True) * 1.1
    np.testing.assert_allclose(deployed.predict(rows), built.transform(rows), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("target", [LABEL, YES], ids=["three classes", "two classes"])
def test_a_stack_of_labels_predicts(target: Any, method: str, tmp_path: Path) -> None:
    """skl2onnx stacks the probabilities in their place."""
    built = StackingClassifier(TWO, cv=2, stack_method="predict", passthrough=True).fit(FRAME, target)

    deployed = deploy(save_sklearn(tmp_path / "model", built, FRAME, pyfunc_predict_fn=method))

    deployed.assert_equals_pyfunc(FRAME)


@pytest.mark.parametrize("scale", [True, False])
def test_least_squares(scale: Any, tmp_path: Path) -> None:
    built = PLSRegression(2, scale=scale).fit(FRAME, NUMBER)

    deployed = deploy(save_sklearn(tmp_path / "model", built, FRAME, pyfunc_predict_fn="transform"))

    np.testing.assert_allclose(deployed.predict(FRAME), built.transform(FRAME), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["clusters", "discriminants", "votes with probabilities", "a stack"])
def test_what_is_transformed_is_predicted_from(name: str, tmp_path: Path) -> None:
    built = make_pipeline(TRANSFORMING[name][0], LogisticRegression()).fit(FRAME, LABEL)

    deployed = deploy(save_sklearn(tmp_path / "model", built, FRAME))

    deployed.assert_equals_pyfunc_exactly(FRAME)


SPARSE: dict[str, tuple[Any, Any]] = {
    "words": (CountVectorizer(), np.array(["red blue", "blue", "green green", ""], object)),
    "weighted words": (TfidfVectorizer(), np.array(["red blue", "blue", "green green", "red"], object)),
    "bins": (KBinsDiscretizer(3, encode="onehot"), FRAME),
    "leaves": (RandomTreesEmbedding(9, max_depth=3, random_state=0), FRAME),
    "categories": (OneHotEncoder(handle_unknown="ignore"), pd.DataFrame({"city": ["Ulm", "Bonn", "Ulm"]})),
}


@pytest.mark.parametrize("name", SPARSE)
def test_a_sparse_answer_is_an_array(name: str, tmp_path: Path) -> None:
    estimator, rows = SPARSE[name]
    estimator.fit(rows)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, rows, pyfunc_predict_fn="transform"))

    answer = deployed.predict(rows)
    np.testing.assert_allclose(answer, estimator.transform(rows).toarray(), rtol=1e-6)
    assert answer.dtype == estimator.transform(rows).dtype


FRAMES: dict[str, Any] = {
    "a function": FunctionTransformer(np.square),
    "no function": FunctionTransformer(),
    "a scaler that was told so": StandardScaler().set_output(transform="pandas"),
    "columns that were told so": ColumnTransformer(
        [("scaled", StandardScaler(), ["c"])], remainder="passthrough"
    ).set_output(transform="pandas"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_an_answer_with_named_columns(name: str, tmp_path: Path) -> None:
    rows = FRAME.assign(n=np.arange(len(FRAME)))
    estimator = FRAMES[name].fit(rows)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, rows, pyfunc_predict_fn="transform"))

    pd.testing.assert_frame_equal(deployed.predict(rows), estimator.transform(rows))
