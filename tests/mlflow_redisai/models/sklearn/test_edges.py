"""
Each family tells its edges, traced back to the columns of the input, and trials there tell a model from an unlike twin.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.reference import Reference
from mlflow_redisai.models.signature import schema_without_signature
from mlflow_redisai.models.sklearn.edges import edges_of
from mlflow_redisai.models.sklearn.estimators import trained_names
from mlflow_redisai.models.trials.checks import probes
from mlflow_redisai.models.trials.edges import NO_EDGES, Edges
from mlflow_redisai.models.trials.rows import Huge
from redisai_engine.codec.mapping import Field, Schema
from redisai_engine.protocol import dtypes
from support.local_runs import deploy, save_sklearn

RANDOM = np.random.default_rng(11)
FRAME = pd.DataFrame({"a": RANDOM.normal(10, 3, 200), "b": RANDOM.integers(0, 5, 200).astype(float)})
LABELS = ((FRAME.a > 10) & (FRAME.b > 1)).astype(int)


def edges(estimator: Any, frame: pd.DataFrame = FRAME, labels: Any = LABELS) -> Edges:
    fitted = estimator.fit(frame, labels)
    return edges_of(fitted, schema_without_signature(frame, fitted, trained_names(fitted)))


def first_threshold(estimator: Any) -> tuple[str, float]:
    tree = estimator.tree_
    return "ab"[tree.feature[0]], float(tree.threshold[0])


# -- what is told ---------------------------------------------------------------------------------


def test_a_tree_tells_its_thresholds() -> None:
    tree = DecisionTreeClassifier(random_state=0)

    found = edges(tree)

    column, threshold = first_threshold(tree)
    assert threshold in found.cuts["ab".index(column)]


@pytest.mark.parametrize(
    "before",
    [
        StandardScaler(),
        MinMaxScaler(),
        make_pipeline(SimpleImputer(), StandardScaler()),
        QuantileTransformer(n_quantiles=20),
    ],
    ids=lambda step: type(step).__name__,
)
def test_a_threshold_is_turned_back_through_scalers(before: Any) -> None:
    """A row that stands there in its column is scaled to the threshold."""
    estimator = make_pipeline(before, DecisionTreeClassifier(random_state=0))

    found = edges(estimator)

    column, threshold = first_threshold(estimator.steps[-1][1])
    at = FRAME.head(1).assign(**{column: [1.0]})
    scaled = [
        before.transform(at.assign(**{column: [cut]}))[0]["ab".index(column)] for cut in found.cuts["ab".index(column)]
    ]
    assert np.abs(np.array(scaled) - threshold).min() < 1e-6


@pytest.mark.parametrize(
    ("estimator", "column", "cut"),
    [
        (Binarizer(threshold=2.5), 1, 2.5),
        (BernoulliNB(binarize=1.25), 0, 1.25),
        (SimpleImputer(missing_values=-1), 0, -1.0),
        (make_pipeline(PolynomialFeatures(2), Binarizer(threshold=2.5)), 1, 2.5),
        (ColumnTransformer([("one", Binarizer(threshold=2.5), ["b"])]), 1, 2.5),
        (FeatureUnion([("one", StandardScaler()), ("two", Binarizer(threshold=2.5))]), 0, 2.5),
        (make_pipeline(SelectKBest(k=1), Binarizer(threshold=2.5)), None, 2.5),
        (make_pipeline("passthrough", Binarizer(threshold=2.5)), 1, 2.5),
        (CalibratedClassifierCV(BernoulliNB(binarize=1.25)), 0, 1.25),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else None,
)
def test_thresholds_are_told_by_column(estimator: Any, column: int | None, cut: float) -> None:
    found = edges(estimator)

    columns = [0, 1] if column is None else [column]
    assert any(cut in found.cuts.get(each, ()) for each in columns)


def test_a_column_transformer_picks_columns_wherever_the_signature_has_them() -> None:
    estimator = ColumnTransformer([("one", Binarizer(threshold=2.5), ["b"])]).fit(FRAME)
    schema = Schema("columns", tuple(Field(name, "double", dtypes.DOUBLE) for name in ("unused", "b", "a")))

    assert list(edges_of(estimator, schema).cuts) == [1]


def test_bins_knots_and_histogram_trees_tell_their_edges() -> None:
    bins, splines = KBinsDiscretizer(4, encode="ordinal"), SplineTransformer(n_knots=5)
    boosted = HistGradientBoostingRegressor(max_iter=3, categorical_features=[1])

    found = {type(each).__name__: edges(each) for each in (bins, splines, boosted)}

    assert set(bins.bin_edges_[0]) <= set(found["KBinsDiscretizer"].cuts[0])
    assert found["SplineTransformer"].ranges[0][0] < FRAME.a.min()
    nodes = boosted._predictors[0][0].nodes
    cuts = [node["num_threshold"] for node in nodes if not node["is_leaf"] and not node["is_categorical"]]
    assert set(cuts) <= set(found["HistGradientBoostingRegressor"].cuts[0])
    assert found["HistGradientBoostingRegressor"].categories[1].tolist() == [0, 1, 2, 3, 4]


def test_trees_of_a_bagging_tell_the_columns_that_they_were_given() -> None:
    bagging = BaggingClassifier(DecisionTreeClassifier(), n_estimators=4, max_features=1, random_state=0)

    found = edges(bagging)

    for tree, columns in zip(bagging.estimators_, bagging.estimators_features_, strict=True):
        inner = tree.tree_.threshold[tree.tree_.children_left != -1]
        assert set(inner) <= set(found.cuts[int(columns[0])])


def test_moments_tell_the_range_that_was_learned() -> None:
    for estimator in (StandardScaler(), GaussianNB(), KNeighborsClassifier()):
        low, high = edges(estimator).ranges[0]

        assert low < FRAME.a.min() < FRAME.a.max() < high
        assert high - low < 20 * FRAME.a.std()


def test_neighbours_tell_training_rows_and_rows_between_classes() -> None:
    found = edges(KNeighborsClassifier(3))

    trained, between, far = ({position: list(values) for position, values in rows.items()} for rows in found.rows)
    assert (trained[0], trained[1]) == (FRAME.a.tolist(), FRAME.b.tolist())
    assert len(between[0]) == 200
    assert max(far[0]) > 10 * FRAME.a.max()


def test_whole_rows_are_turned_back_through_scalers_and_encoders() -> None:
    frame = FRAME.assign(c=np.where(LABELS == 1, "x", "y"))
    encoders = [("n", StandardScaler(), ["a", "b"]), ("c", OneHotEncoder(sparse_output=False), ["c"])]
    estimator = make_pipeline(ColumnTransformer(encoders), SVC()).fit(frame, LABELS)

    found = edges_of(estimator, schema_without_signature(frame, estimator, trained_names(estimator)))

    [rows] = found.rows
    support = frame.iloc[estimator.steps[-1][1].support_]
    assert np.allclose(np.asarray(rows[0], float), support.a)
    assert list(rows[2]) == support.c.tolist()


def test_encoders_and_vectorizers_tell_what_they_know() -> None:
    frame = pd.DataFrame({"colour": ["red", "blue", None] * 10, "text": ["good wine", "bad wine", "odd thing"] * 10})
    columns = [("c", OneHotEncoder(handle_unknown="ignore"), ["colour"]), ("t", CountVectorizer(), "text")]
    estimator = ColumnTransformer(columns).fit(frame)

    found = edges_of(estimator, schema_without_signature(frame.fillna("red"), estimator, trained_names(estimator)))

    assert found.categories[0].tolist() == ["blue", "red"]
    assert set(found.words[1]) == {"good", "bad", "odd", "wine", "thing"}


def test_a_step_that_cannot_be_read_leaves_the_others() -> None:
    class Odd(StandardScaler):  # type: ignore[misc]
        """A scaler whose inverse fails."""

        def inverse_transform(self, X: Any, copy: Any = None) -> Any:
            raise RuntimeError("no way back")

    found = edges(make_pipeline(Odd(), DecisionTreeClassifier()))

    assert 0 in found.ranges


def test_inputs_that_have_no_columns_have_no_edges() -> None:
    schema = Schema("tensors", (Field(None, "float64", dtypes.DOUBLE, (None, 2, 2)),))

    assert edges_of(StandardScaler().fit(FRAME), schema) == NO_EDGES


# -- what trials find by it -----------------------------------------------------------------------

Twins = tuple[Any, Any, pd.DataFrame]


def weights_ignored() -> Twins:
    labels = RANDOM.integers(0, 2, len(FRAME))
    return (
        KNeighborsClassifier(4, weights="distance").fit(FRAME, labels),
        KNeighborsClassifier(4).fit(FRAME, labels),
        FRAME,
    )


def outliers_labelled_otherwise() -> Twins:
    fitted = RadiusNeighborsClassifier(1.0, outlier_label=0).fit(FRAME, LABELS)
    return fitted, RadiusNeighborsClassifier(1.0, outlier_label=1).fit(FRAME, LABELS), FRAME


def bins_rounded() -> Twins:
    seconds = pd.DataFrame({"second": 1.7e9 + RANDOM.integers(0, 2000, 500)})
    bins = KBinsDiscretizer(8, encode="ordinal", quantile_method="averaged_inverted_cdf")
    fitted = make_pipeline(bins, DecisionTreeRegressor(random_state=0)).fit(seconds, np.arange(500.0))
    twin = copy.deepcopy(fitted)
    twin[0].bin_edges_[0][:] = twin[0].bin_edges_[0].astype(np.float32)
    return fitted, twin, seconds


def thresholds_an_ulp_off() -> Twins:
    fitted = RandomForestClassifier(5, random_state=0).fit(FRAME, LABELS)
    twin = copy.deepcopy(fitted)
    for tree in twin.estimators_:
        narrow = tree.tree_.threshold.astype(np.float32)
        tree.tree_.threshold[:] = np.nextafter(narrow, np.float32(np.inf))
    return fitted, twin, FRAME


def at_the_threshold_of_a_binarizer() -> Twins:
    fitted = make_pipeline(Binarizer(threshold=1.4), DecisionTreeClassifier(random_state=0)).fit(FRAME, LABELS)
    twin = copy.deepcopy(fitted)
    twin[0].threshold = np.nextafter(1.4, 0)
    return fitted, twin, FRAME


class Truncating:
    """An encoder's model that reads fractions as whole numbers."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, rows: pd.DataFrame) -> Any:
        return self.model.predict(np.trunc(rows.clip(-1e15, 1e15)))


def fractions_read_as_whole_numbers() -> Twins:
    rooms = pd.DataFrame({"rooms": np.tile([0.0, 1.0, 2.0, 3.0], 25)})
    encoder = ColumnTransformer([("rooms", OneHotEncoder(handle_unknown="ignore"), ["rooms"])])
    fitted = make_pipeline(encoder, LogisticRegression()).fit(rooms, rooms.rooms > 2)
    return fitted, Truncating(fitted), rooms


def unknown_category_taken_for_another() -> Twins:
    sizes = pd.DataFrame({"size": ["s", "m", "l", "xl"] * 25})

    def fitted(value: int) -> Any:
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=value)
        return make_pipeline(encoder, DecisionTreeClassifier()).fit(sizes, np.tile([0, 1, 2, 3], 25))

    return fitted(-1), fitted(9), sizes


class Dividing:
    """A normalizer's model that divides by the length of a row, which may be 0."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, rows: pd.DataFrame) -> Any:
        answer = self.model.predict(rows)
        return np.where((rows == 0).all(axis=1), np.nan, answer)


def a_row_of_zeros_has_no_length() -> Twins:
    fitted = make_pipeline(Normalizer(), DecisionTreeRegressor(random_state=0)).fit(
        FRAME, RANDOM.normal(size=len(FRAME))
    )
    return fitted, Dividing(fitted), FRAME


FAULTS: list[Callable[[], Twins]] = [
    a_row_of_zeros_has_no_length,
    weights_ignored,
    outliers_labelled_otherwise,
    bins_rounded,
    thresholds_an_ulp_off,
    at_the_threshold_of_a_binarizer,
    fractions_read_as_whole_numbers,
    unknown_category_taken_for_another,
]


@pytest.mark.parametrize("example_rows", [1, 0])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_trials_tell_a_model_from_its_twin(fault: Callable[[], Twins], example_rows: int) -> None:
    """The twin differs from the model as a known fault of a converter does."""
    model, twin, frame = fault()
    schema = schema_without_signature(frame, model, trained_names(model))
    example = frame.head(example_rows) if example_rows else None

    _, found = probes(Reference("the estimator itself", model.predict), schema, example, edges_of(model, schema))

    ordinary = [rows for rows in found if not isinstance(rows, Huge)]
    assert any((model.predict(rows) != twin.predict(rows)).any() for rows in ordinary)
    assert 100 < sum(map(len, ordinary)) < 6000


@pytest.mark.slow
@pytest.mark.parametrize("example_rows", [1, 0])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_is_deployed_answers_as_the_model_does(
    fault: Callable[[], Twins], example_rows: int, tmp_path: Path
) -> None:
    model, _, frame = fault()
    path = save_sklearn(tmp_path / "model", model, frame, example_rows=example_rows)

    try:
        deployed = deploy(path)
    except NotConvertible:
        return
    deployed.assert_equals_pyfunc(frame)
    assert deployed.deployable.tried > 100
