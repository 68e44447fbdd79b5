"""Estimators trained on real data must answer as mlflow.pyfunc does, on rows that they weren't trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.sklearn import SUPPORTED_SERIALIZATION_FORMATS
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from mlflow_redisai.deploy.choice import convert
from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.codec.compare import Difference, compare
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.protocol import dtypes
from support.boosted_models import cancer, diabetes
from support.local_runs import deploy, mixed_frame, save_sklearn

CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "forest": lambda: RandomForestClassifier(30, random_state=1),
    "extra trees": lambda: ExtraTreesClassifier(30, random_state=1),
    "tree": lambda: DecisionTreeClassifier(random_state=1),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=20, random_state=1),
    "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=20, random_state=1),
    "adaboost": lambda: AdaBoostClassifier(n_estimators=10, random_state=1),
    "bagging": lambda: BaggingClassifier(random_state=1),
    "support vectors": lambda: make_pipeline(StandardScaler(), SVC()),
    "linear support vectors": lambda: make_pipeline(StandardScaler(), LinearSVC()),
    "stochastic gradient": lambda: SGDClassifier(random_state=1),
    "ridge": RidgeClassifier,
    "neighbours": KNeighborsClassifier,
    "naive Bayes": GaussianNB,
    "perceptrons": lambda: make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=300, tol=0.01, random_state=1)),
    "voting": lambda: VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier(random_state=1))]),
    "stacking": lambda: StackingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier(random_state=1))]),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "linear": LinearRegression,
    "forest": lambda: RandomForestRegressor(20, random_state=1),
    "boosting": lambda: GradientBoostingRegressor(n_estimators=20, random_state=1),
    "histogram boosting": lambda: HistGradientBoostingRegressor(max_iter=20, random_state=1),
    "support vectors": SVR,
}
WITHOUT_PROBABILITIES = {"voting", "support vectors", "linear support vectors", "stochastic gradient", "ridge"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_labels_of_a_classifier_equal_pyfuncs(kind: str, tmp_path: Path) -> None:
    """Labels are text, over 250 rows are held out, and the dtype is the same, too."""
    frame, labels = cancer()
    estimator = CLASSIFIERS[kind]().fit(frame[::2], labels[::2])

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    answer = deployed.predict(frame)
    deployed.assert_equals_pyfunc_exactly(frame)
    assert answer.dtype == deployed.expected(frame).dtype


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(CLASSIFIERS) - WITHOUT_PROBABILITIES))
def test_probabilities_equal_pyfuncs_if_the_model_was_logged_so(kind: str, tmp_path: Path) -> None:
    frame, labels = cancer()
    estimator = CLASSIFIERS[kind]().fit(frame[::2], labels[::2])

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn="predict_proba"))

    deployed.assert_equals_pyfunc(frame)
    assert deployed.predict(frame).shape == (len(frame), 2)


@pytest.mark.parametrize("kind", REGRESSORS)
def test_numbers_of_a_regressor_equal_pyfuncs(kind: str, tmp_path: Path) -> None:
    frame, target = diabetes()
    estimator = REGRESSORS[kind]().fit(frame[::2], target[::2])

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc(frame, within=1e-6)
    assert deployed.predict(frame).dtype == np.float64


def mixed_pipeline(last: Any, **options: Any) -> Pipeline:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = [("numbers", numbers, ["alcohol", "malic_acid", "proline"]), ("text", encoder, ["colour", "grade"])]
    return make_pipeline(ColumnTransformer(columns, **options), last)


@pytest.mark.slow
@pytest.mark.parametrize(
    "last",
    [LogisticRegression(), RandomForestClassifier(20, random_state=1), HistGradientBoostingClassifier(max_iter=10)],
    ids=lambda last: type(last).__name__,
)
@pytest.mark.parametrize("function", ["predict", "predict_proba"])
def test_a_pipeline_over_numbers_and_text_equals_pyfunc(last: Any, function: str, tmp_path: Path) -> None:
    """The pipeline fills gaps, encodes text and integers as categories, and ignores one column."""
    frame, labels = mixed_frame()
    estimator = mixed_pipeline(last, sparse_threshold=0).fit(frame[::2], labels[::2])

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn=function, example_rows=5))

    deployed.assert_equals_pyfunc(frame)
    assert [item.dtype for item in deployed.mapping.inputs] == [
        dtypes.DOUBLE,
        dtypes.DOUBLE,
        dtypes.INT64,
        dtypes.STRING,
        dtypes.INT64,
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("alcohol (% vol.)", "mean hue"),
        ("a.b", "c:d"),
        ("1", "2"),
        ("größe", "[z]"),
        ("a b", "a_b"),
        ("inputs", "data"),
        ("output", "label"),
        ("probabilities", "variable"),
    ],
    ids=str,
)
def test_columns_may_have_any_names(names: tuple[str, str], tmp_path: Path) -> None:
    """skl2onnx renames inputs whose names aren't identifiers or are those of its outputs."""
    frame, labels = mixed_frame()
    frame = frame[["alcohol", "proline", "colour"]].set_axis([*names, "colour"], axis=1)
    columns = ColumnTransformer([("first", StandardScaler(), [names[1]]), ("text", OneHotEncoder(), ["colour"])])
    estimator = make_pipeline(columns.set_params(remainder="passthrough"), LogisticRegression(max_iter=5000))

    deployed = deploy(save_sklearn(tmp_path / "model", estimator.fit(frame[::2], labels[::2]), frame))

    deployed.assert_equals_pyfunc_exactly(frame)
    deployed.assert_equals_pyfunc_exactly(frame[["colour", *names[::-1]]])


def test_a_category_never_seen_is_treated_as_the_pipeline_does(tmp_path: Path) -> None:
    frame, labels = mixed_frame()
    estimator = mixed_pipeline(LogisticRegression()).fit(frame, labels)
    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))
    unknown = frame.head(3).assign(colour="blue")

    deployed.assert_equals_pyfunc_exactly(unknown)


def test_ordinal_categories_and_columns_passed_through(tmp_path: Path) -> None:
    frame, labels = mixed_frame()
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("text", encoder, ["colour"])], remainder="passthrough")
    estimator = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=10)).fit(frame, labels)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc_exactly(frame)


@pytest.mark.parametrize("labels", [[0, 1, 2], ["a", "bb", "ccc"], [10, 20, 30]])
def test_labels_keep_their_values_and_type(labels: list[Any], tmp_path: Path) -> None:
    data = load_wine(as_frame=True)
    target = np.array(labels)[data.target]
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.data, target)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, data.data))

    answer = deployed.predict(data.data)
    assert answer.dtype == target.dtype
    deployed.assert_equals_pyfunc_exactly(data.data)


def test_labels_that_are_truth_values(tmp_path: Path) -> None:
    frame, labels = cancer()
    estimator = GradientBoostingClassifier(n_estimators=5).fit(frame, labels == "benign")

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    assert deployed.predict(frame).dtype == bool
    deployed.assert_equals_pyfunc_exactly(frame)


def test_text_labels_of_a_series_come_back_as_objects_where_pyfunc_gives_objects(tmp_path: Path) -> None:
    frame, labels = cancer()
    estimator = GaussianNB().fit(frame, pd.Series(labels, dtype=object))

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    assert deployed.predict(frame).dtype == deployed.expected(frame).dtype
    deployed.assert_equals_pyfunc_exactly(frame)


def test_several_targets(tmp_path: Path) -> None:
    frame, target = diabetes()
    both = np.column_stack([target, -target])

    for number, estimator in enumerate([LinearRegression(), MultiOutputRegressor(Ridge()), RandomForestRegressor(5)]):
        deployed = deploy(save_sklearn(tmp_path / str(number), estimator.fit(frame, both), frame))

        deployed.assert_equals_pyfunc(frame)
        assert deployed.predict(frame).shape == (len(frame), 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["forest", "one a target"])
def test_probabilities_of_several_targets_are_a_list_of_arrays(kind: str, tmp_path: Path) -> None:
    data = load_iris(as_frame=True)
    both = np.column_stack([data.target, data.target > 0])
    forest = RandomForestClassifier(10, random_state=1)
    estimator = forest if kind == "forest" else MultiOutputClassifier(LogisticRegression(max_iter=500))
    path = save_sklearn(tmp_path / "m", estimator.fit(data.data, both), data.data, pyfunc_predict_fn="predict_proba")

    deployed = deploy(path)

    deployed.assert_equals_pyfunc(data.data)
    assert [part.shape for part in deployed.predict(data.data)] == [(150, 3), (150, 2)]


def test_logarithms_of_probabilities(tmp_path: Path) -> None:
    frame, labels = cancer()
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(frame, labels)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn="predict_log_proba"))

    deployed.assert_equals_pyfunc(frame)


def test_clusters_equal_pyfuncs(tmp_path: Path) -> None:
    frame, _ = diabetes()

    deployed = deploy(save_sklearn(tmp_path / "model", KMeans(4, n_init=1, random_state=1).fit(frame), frame))

    deployed.assert_equals_pyfunc_exactly(frame)
    assert deployed.predict(frame).dtype == np.int32


def test_a_transformer_answers_with_what_it_makes_though_pyfunc_refuses_it(tmp_path: Path) -> None:
    frame, _ = diabetes()
    estimator = make_pipeline(StandardScaler(), PCA(3)).fit(frame)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    np.testing.assert_allclose(deployed.predict(frame), estimator.transform(frame), rtol=1e-9)
    assert "python_function" not in deployed.model.flavors


@pytest.mark.slow
class TestGaps:
    """If the estimator refuses NaN, so must the deployed model. If it accepts NaN, the answers must be the same."""

    def test_an_estimator_that_refuses_gaps(self, tmp_path: Path) -> None:
        frame, labels = cancer()
        deployed = deploy(save_sklearn(tmp_path / "model", GaussianNB().fit(frame, labels), frame))
        broken = frame.head(3).copy()
        broken.iloc[1, 4] = np.nan

        with pytest.raises(
            InputMismatch, match=r"column 'mean smoothness' has a value in row 1 that is missing \(NaN\)"
        ):
            deployed.predict(broken)
        with pytest.raises(ValueError, match="contains NaN"):
            deployed.expected(broken)

    def test_gaps_are_taken_only_by_the_columns_that_are_filled(self, tmp_path: Path) -> None:
        frame, labels = mixed_frame()
        parts = [("filled", SimpleImputer(), ["malic_acid"]), ("plain", StandardScaler(), ["alcohol"])]
        estimator = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(frame, labels)
        deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

        deployed.assert_equals_pyfunc_exactly(frame)
        with pytest.raises(InputMismatch, match=r"column 'alcohol' has a value in row 0 that is missing \(NaN\)"):
            deployed.predict(frame.assign(alcohol=np.nan))

    def test_an_infinity_is_told(self, tmp_path: Path) -> None:
        data = load_digits()
        deployed = deploy(save_sklearn(tmp_path / "model", GaussianNB().fit(data.data, data.target), data.data))
        broken = data.data[:2].copy()
        broken[1, 3] = np.inf

        with pytest.raises(InputMismatch, match="the input has a value in row 1 that is infinite"):
            deployed.predict(broken)


@pytest.mark.slow
class TestInputs:
    """The model takes the signature's types, whichever types it computes in."""

    @pytest.mark.parametrize(
        ("numpy", "dtype"),
        [("float64", dtypes.DOUBLE), ("float32", dtypes.FLOAT), ("int64", dtypes.INT64), ("int32", dtypes.INT32)],
    )
    def test_a_frame_of_one_type_is_one_matrix_of_that_type(self, numpy: str, dtype: Any, tmp_path: Path) -> None:
        frame, labels = cancer()
        frame = frame.astype(numpy)
        estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, labels)

        deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

        assert [(item.dtype, item.shape) for item in deployed.mapping.inputs] == [(dtype, (None, 30))]
        deployed.assert_equals_pyfunc_exactly(frame)

    @pytest.mark.parametrize("numpy", ["float64", "float32", "uint8"])
    def test_a_model_trained_on_an_array(self, numpy: str, tmp_path: Path) -> None:
        """The digits are images of 64 numbers. The signature is an unnamed tensor."""
        data = load_digits()
        images = data.data.astype(numpy)
        estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(images[::2], data.target[::2])

        deployed = deploy(save_sklearn(tmp_path / "model", estimator, images))

        deployed.assert_equals_pyfunc_exactly(images)
        assert deployed.mapping.inputs[0].dtype == dtypes.by_numpy(numpy)

    @pytest.mark.parametrize("kind", [object, str], ids=["objects", "numpy's own text"])
    def test_a_model_trained_on_an_array_of_text(self, kind: type, tmp_path: Path) -> None:
        frame, labels = mixed_frame()
        rows = frame[["colour", "grade"]].astype(str).to_numpy(object).astype(kind)
        estimator = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(rows, labels)

        deployed = deploy(save_sklearn(tmp_path / "model", estimator, rows))

        deployed.assert_equals_pyfunc_exactly(rows)
        assert deployed.mapping.inputs[0].dtype is dtypes.STRING

    def test_numbers_of_several_types_become_float64_as_in_scikit_learn(self, tmp_path: Path) -> None:
        frame, labels = mixed_frame()
        frame = frame[["alcohol", "proline", "grade", "aged"]]
        estimator = RandomForestClassifier(10, random_state=1).fit(frame, labels)

        deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

        assert [item.dtype for item in deployed.mapping.inputs] == [dtypes.DOUBLE]
        deployed.assert_equals_pyfunc_exactly(frame)

    def test_without_signature_the_estimators_own_columns_are_taken(self, tmp_path: Path) -> None:
        frame, labels = cancer()
        estimator = GaussianNB().fit(frame, labels)

        deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, signature=False, example_rows=0))

        assert deployed.mapping.schema is not None
        assert deployed.mapping.schema.names() == tuple(frame.columns)
        deployed.assert_equals_pyfunc_exactly(frame)

    def test_without_signature_and_names_the_width_is_taken(self, tmp_path: Path) -> None:
        data = load_digits()
        estimator = GaussianNB().fit(data.data, data.target)

        deployed = deploy(save_sklearn(tmp_path / "model", estimator, data.data, signature=False, example_rows=0))

        assert deployed.mapping.inputs[0].shape == (None, 64)
        deployed.assert_equals_pyfunc_exactly(data.data)


@pytest.mark.slow
@pytest.mark.parametrize("serialization_format", SUPPORTED_SERIALIZATION_FORMATS)
def test_every_file_format_of_mlflow_opens(serialization_format: str, tmp_path: Path) -> None:
    frame, labels = cancer()
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, labels)
    path = save_sklearn(tmp_path / "model", estimator, frame, serialization_format=serialization_format)

    deploy(path).assert_equals_pyfunc_exactly(frame)


def test_outputs_picks_others_than_pyfuncs(tmp_path: Path) -> None:
    frame, labels = cancer()
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, labels)
    path = save_sklearn(tmp_path / "model", estimator, frame)

    one = deploy(path, outputs="probabilities").predict(frame)
    both = deploy(path, outputs="label,probabilities").predict(frame)

    # scikit-learn takes the first probability as 1 minus the second, and loses digits that the graph keeps.
    np.testing.assert_allclose(one, estimator.predict_proba(frame), rtol=1e-6, atol=1e-15)
    assert list(both) == ["label", "probabilities"]


class TestRefused:
    """The errors name what can't be converted, and what would work."""

    def test_a_function_that_no_graph_computes(self, tmp_path: Path) -> None:
        frame, labels = cancer()
        estimator = GaussianNB().fit(frame, labels)
        path = save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn="predict_joint_log_proba")

        with pytest.raises(NotConvertible, match="logged with pyfunc_predict_fn='predict_joint_log_proba'"):
            deploy(path)

    def test_an_output_that_is_not_there(self, tmp_path: Path) -> None:
        frame, labels = cancer()
        path = save_sklearn(tmp_path / "model", GaussianNB().fit(frame, labels), frame)

        with pytest.raises(NotConvertible, match="has no output 'scores'; it has label, probabilities"):
            deploy(path, outputs="scores")

    def test_a_backend_of_another_flavor(self, tmp_path: Path) -> None:
        frame, labels = cancer()
        path = save_sklearn(tmp_path / "model", GaussianNB().fit(frame, labels), frame)

        with pytest.raises(MlflowException, match="can't be deployed with backend TORCH; allowed are auto, ONNX"):
            deploy(path, backend="TORCH")


def test_the_graph_stays_within_the_servers_limits(tmp_path: Path) -> None:
    """The result is inspected, not what the converter was asked for."""
    import onnx

    frame, labels = cancer()
    path = save_sklearn(tmp_path / "model", make_pipeline(StandardScaler(), SVC()).fit(frame, labels), frame)

    with open_model(str(path)) as model:
        blob = convert(model, flavor="sklearn", opset=13, limits=ServerLimits()).blob

    proto = onnx.load_from_string(blob)
    assert proto.ir_version <= 8
    assert all(item.version <= (13 if not item.domain else 3) for item in proto.opset_import)


def test_a_conversion_that_answers_differently_is_found_on_made_up_rows(tmp_path: Path) -> None:
    """One row of an example shows little. The rows around it show the mistake."""
    frame, labels = cancer()
    deployed = deploy(save_sklearn(tmp_path / "model", GaussianNB().fit(frame, labels), frame, example_rows=1))
    answer = deployed.predict(frame)

    with pytest.raises(Difference, match="of 569 labels differ"):
        compare(answer[::-1], answer, 1e-9)
