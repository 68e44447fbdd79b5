"""Facts about estimators: how they read numbers, and which step has no converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.signature import schema_without_signature
from mlflow_redisai.models.sklearn.estimators import (
    convertible,
    every_estimator,
    reads_float32,
    takes_columns,
    trained_names,
)
from support.boosted_models import cancer
from support.local_runs import deploy, mixed_frame, save_sklearn


def test_an_estimator_without_converter(tmp_path: Path) -> None:
    frame, labels = cancer()
    path = save_sklearn(tmp_path / "model", NearestCentroid().fit(frame, labels), frame)

    with pytest.raises(NotConvertible, match=r"NearestCentroid of sklearn\.neighbors.* has no converter") as caught:
        deploy(path)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_step_that_calls_python(tmp_path: Path) -> None:
    frame, labels = cancer()
    estimator = make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression(max_iter=5000))
    path = save_sklearn(tmp_path / "model", estimator.fit(frame, labels), frame)

    with pytest.raises(
        NotConvertible,
        match=r"step functiontransformer \(FunctionTransformer\): func=cbrt .* use one of numpy\.absolute",
    ):
        deploy(path)


def test_a_step_of_the_users_own(tmp_path: Path) -> None:
    frame, labels = cancer()
    estimator = Pipeline([("mine", Halved()), ("last", LogisticRegression(max_iter=5000))])
    path = save_sklearn(tmp_path / "model", estimator.fit(frame, labels), frame)

    with pytest.raises(NotConvertible, match=r"step mine \(Halved\) of .* has no converter"):
        deploy(path)


class Halved(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer without a converter."""

    def fit(self, X: Any, y: Any = None) -> Halved:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        return X / 2


def test_an_estimator_is_found_inside_whatever_asks_it() -> None:
    frame, labels = cancer()
    inner = DecisionTreeClassifier(max_depth=2)
    asked = make_pipeline(StandardScaler(), VotingClassifier([("tree", inner), ("bayes", GaussianNB())]))

    found = [type(each).__name__ for each in every_estimator(asked.fit(frame, labels))]

    assert found == ["Pipeline", "StandardScaler", "VotingClassifier", "DecisionTreeClassifier", "GaussianNB"]


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (DecisionTreeClassifier(), True),
        (make_pipeline(StandardScaler(), RandomForestClassifier(2)), True),
        (RidgeClassifier(), False),
        (make_pipeline(StandardScaler(), GaussianNB()), False),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else str(value),
)
def test_trees_and_what_is_made_of_them_read_float32(estimator: Any, expected: bool) -> None:  # noqa: FBT001
    frame, labels = cancer()

    assert reads_float32(estimator.fit(frame, labels)) is expected


@pytest.mark.parametrize(
    ("make", "names", "expected"),
    [
        (lambda: make_pipeline(StandardScaler(), GaussianNB()), ["alcohol", "proline"], False),
        (lambda: ColumnTransformer([("one", StandardScaler(), ["alcohol"])]), ["alcohol", "proline"], True),
        (lambda: ColumnTransformer([("one", StandardScaler(), [0])]), ["alcohol", "proline"], False),
        (lambda: ColumnTransformer([("one", OneHotEncoder(), [0])]), ["colour", "alcohol"], True),
    ],
    ids=["a matrix", "picked by name", "picked by place", "text beside numbers"],
)
def test_columns_are_tensors_of_their_own_where_they_are_picked_by_name_or_mixed(
    make: Any,
    names: list[str],
    expected: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    frame, labels = mixed_frame()
    estimator = make().fit(frame[names], labels)

    assert (
        takes_columns(estimator, schema_without_signature(frame[names], estimator, trained_names(estimator)))
        is expected
    )


def test_a_linear_classifier_is_converted_as_the_logistic_regression_of_its_scores() -> None:
    """The labels are the same, and the estimator itself stays unchanged."""
    frame, labels = cancer()
    estimator = make_pipeline(StandardScaler(), LinearSVC()).fit(frame, labels)

    twin = convertible(estimator, "predict")

    assert type(twin.steps[-1][1]) is LogisticRegression
    assert type(estimator.steps[-1][1]) is LinearSVC
    assert (twin.predict(frame) == estimator.predict(frame)).all()
    assert convertible(estimator, "predict_proba").steps[-1][1] is estimator.steps[-1][1]
