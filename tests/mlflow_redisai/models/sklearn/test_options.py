"""A value that no conversion honours is refused in our words, wherever the estimator stands."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import GenericUnivariateSelect
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.sklearn.estimators import walk
from mlflow_redisai.models.sklearn.options import FITTING, ONLY, READ, refuse_unknown_options
from support.boosted_models import cancer, diabetes
from support.local_runs import deploy, save_sklearn

ISOTONIC = CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=2)
MARKED = make_pipeline(StandardScaler(), SimpleImputer(add_indicator=True), LogisticRegression())

NESTED: dict[str, Any] = {
    "alone": ISOTONIC,
    "a pipeline": make_pipeline(StandardScaler(), ISOTONIC),
    "a pipeline in a pipeline": make_pipeline(make_pipeline(StandardScaler()), make_pipeline(ISOTONIC)),
    "a column transformer": make_pipeline(
        ColumnTransformer([("filled", SimpleImputer(add_indicator=True), [0, 1])]), GaussianNB()
    ),
    "a union": make_pipeline(FeatureUnion([("filled", SimpleImputer(add_indicator=True))]), GaussianNB()),
    "voting": VotingClassifier([("a", GaussianNB()), ("b", ISOTONIC)]),
    "stacking": StackingClassifier([("a", GaussianNB()), ("b", ISOTONIC)], cv=2),
    "the end of stacking": StackingClassifier([("a", GaussianNB())], final_estimator=ISOTONIC, cv=2),
    "bagging": BaggingClassifier(MARKED, n_estimators=2),
    "calibrated": CalibratedClassifierCV(MARKED, cv=2),
    "one against the rest": OneVsRestClassifier(ISOTONIC),
    "one against one": OneVsOneClassifier(ISOTONIC),
    "a search": GridSearchCV(ISOTONIC, {"cv": [2, 3]}, cv=2),
}


def refusal(estimator: Any) -> str:
    with pytest.raises(NotConvertible) as refused:
        refuse_unknown_options(walk(estimator))
    return str(refused.value.message)


@pytest.mark.parametrize("kind", NESTED)
def test_an_option_is_refused_wherever_the_estimator_stands(kind: str) -> None:
    frame, labels = cancer()
    estimator = NESTED[kind].fit(frame.to_numpy()[:100], labels[:100])

    said = refusal(estimator)

    assert "method='isotonic' can't be" in said or "add_indicator=True can't be" in said


@pytest.mark.parametrize("kind", [MultiOutputClassifier, ClassifierChain])
def test_an_option_is_refused_in_each_of_several_targets(kind: Any) -> None:
    frame, _ = cancer()
    numbers = frame.to_numpy()[:100]

    assert "method='isotonic'" in refusal(
        kind(ISOTONIC).fit(numbers, (numbers[:, :2] > numbers[:, :2].mean(0)).astype(int))
    )


def test_an_option_is_refused_behind_a_transformed_target() -> None:
    frame, target = diabetes()
    estimator = TransformedTargetRegressor(make_pipeline(SimpleImputer(add_indicator=True), LinearRegression()))

    assert "add_indicator=True" in refusal(estimator.fit(frame, target))


def test_the_refusal_names_step_estimator_value_and_what_works(tmp_path: Path) -> None:
    frame, labels = cancer()
    estimator = make_pipeline(StandardScaler(), ISOTONIC).fit(frame, labels)

    with pytest.raises(NotConvertible) as refused:
        deploy(save_sklearn(tmp_path / "model", estimator, frame))

    assert str(refused.value.message) == (
        "step calibratedclassifiercv (CalibratedClassifierCV): method='isotonic' can't be converted to ONNX; "
        "use method='sigmoid'"
    )


def test_a_selection_that_raises_an_error_itself_is_refused() -> None:
    frame, labels = cancer()
    selection = GenericUnivariateSelect(mode="k_best", param=2e-5).fit(frame, labels)

    assert "it raises an error itself when it is asked for its columns" in refusal(selection)


def test_the_pattern_of_an_ensemble_is_not_taken_for_a_fitted_estimator(tmp_path: Path) -> None:
    frame, labels = cancer()
    bag = BaggingClassifier(KNeighborsClassifier(), n_estimators=3, random_state=0).fit(frame[:80], labels[:80])

    deploy(save_sklearn(tmp_path / "model", bag, frame)).assert_equals_pyfunc_exactly(frame)


def test_splits_by_category_are_refused() -> None:
    """skl2onnx would compare the number of a category with a threshold."""
    codes = np.random.default_rng(1).integers(0, 6, (200, 2)).astype(float)
    estimator = HistGradientBoostingClassifier(categorical_features=[0], max_iter=5).fit(codes, codes[:, 0] % 2)

    assert "splits by category" in refusal(estimator)


def test_an_option_that_is_honoured_passes(tmp_path: Path) -> None:
    frame, labels = cancer()
    scaled = MinMaxScaler((-1, 2), clip=True)
    estimator = make_pipeline(scaled, LogisticRegression(C=3, class_weight="balanced")).fit(frame[::2], labels[::2])

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn="predict_proba"))

    deployed.assert_equals_pyfunc(frame)
    deployed.assert_equals_pyfunc(frame * 3)


def test_the_table_has_only_parameters_that_exist() -> None:
    from skl2onnx._supported_operators import sklearn_operator_name_map

    parameters = {kind.__name__: set(inspect.signature(kind).parameters) for kind in sklearn_operator_name_map}

    for name, read in READ.items():
        # Older versions of scikit-learn lack some parameters, and newer ones some classes.
        assert not set(read.split()) & FITTING, f"{name} names a parameter that only acts while fitting"
    for name, parameter in ONLY:
        assert parameter in parameters.get(name, {parameter}), f"{name} has no parameter {parameter}"


def test_neighbours_that_only_their_order_tells_apart_are_refused() -> None:
    """Which of several equally distant rows scikit-learn counts depends on its search, which no graph repeats."""
    tied = np.random.default_rng(1).integers(0, 4, (200, 2)).astype(float)
    spread = np.random.default_rng(1).normal(size=(200, 2))
    labels = np.random.default_rng(2).integers(0, 2, 200)

    assert "training rows are at equal distances" in refusal(KNeighborsClassifier().fit(tied, labels))
    refuse_unknown_options(walk(KNeighborsClassifier().fit(spread, labels)))


def _far(one: Any, other: Any) -> float:
    return float(abs(one - other).max())


@pytest.mark.parametrize("option", [{"weights": lambda far: 1 / far}, {"metric": _far}])
def test_neighbours_by_a_function_are_refused(option: dict[str, Any]) -> None:
    frame, labels = cancer()

    said = refusal(KNeighborsClassifier(**option).fit(frame, labels))

    assert said.startswith(f"KNeighborsClassifier: {next(iter(option))}=")


def test_neighbours_within_a_radius_need_a_label_for_outliers() -> None:
    frame, labels = cancer()

    assert "use outlier_label" in refusal(RadiusNeighborsClassifier(1e9).fit(frame, labels))
    refuse_unknown_options(walk(RadiusNeighborsClassifier(1e9, outlier_label="benign").fit(frame, labels)))


def test_a_linear_discriminant_of_dependent_columns_is_refused() -> None:
    frame, labels = cancer()
    large = (frame.iloc[:, 1] > 20).astype(float)
    chosen = frame.iloc[:, :1].assign(large=large, small=1 - large)
    loose = LinearDiscriminantAnalysis(tol=0.0)

    assert "its columns are linearly dependent" in refusal(loose.fit(chosen, labels))
    refuse_unknown_options(walk(loose.fit(frame.iloc[:, :2], labels)))


def test_a_discriminant_of_dependent_columns_is_refused() -> None:
    """Its smallest variance is rounding, and so are its answers: 0.77 was 0.72 after conversion."""
    frame, labels = cancer()
    chosen = frame.iloc[:, :2].assign(sum=frame.iloc[:, 0] + frame.iloc[:, 1])
    loose = QuadraticDiscriminantAnalysis(tol=0.0)

    assert "its columns are linearly dependent" in refusal(loose.fit(chosen, labels))
    refuse_unknown_options(walk(loose.fit(frame.iloc[:, :2], labels)))
