"""Boosted models inside pipelines and ensembles of scikit-learn, saved with MLflow's flavor sklearn."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

from mlflow_redisai.deploy.choice import convert
from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.server.limits import ServerLimits
from support.boosted_models import LIBRARIES, cancer, diabetes, made, with_gaps
from support.local_runs import deploy, mixed_frame, save_sklearn


@pytest.mark.slow
@pytest.mark.parametrize("function", ["predict", "predict_proba"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_classifier_behind_numbers_and_text(library: str, function: str, tmp_path: Path) -> None:
    frame, labels = mixed_frame()
    target = np.unique(labels, return_inverse=True)[1] if library == "xgboost" else labels
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = [("numbers", StandardScaler(), ["alcohol", "malic_acid", "proline"]), ("text", encoder, ["colour"])]
    model = make_pipeline(ColumnTransformer(columns), made(library, "Classifier")).fit(frame[::2], target[::2])

    deployed = deploy(save_sklearn(tmp_path / "m", model, frame, pyfunc_predict_fn=function))

    deployed.assert_equals_pyfunc(frame)
    assert deployed.predict(frame).dtype == deployed.expected(frame).dtype


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_regressor_behind_products_of_columns(library: str, tmp_path: Path) -> None:
    """A product must not be rounded before a tree compares it: the threshold is the product of a training row."""
    frame, target = diabetes()
    model = make_pipeline(PolynomialFeatures(2), made(library, "Regressor")).fit(frame[::2], target[::2])

    deploy(save_sklearn(tmp_path / "m", model, frame)).assert_equals_pyfunc(frame)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_inside_an_ensemble(library: str, tmp_path: Path) -> None:
    frame, labels = cancer()
    target = (labels == "benign").astype(int)
    model = StackingClassifier([("boosted", made(library, "Classifier")), ("other", GaussianNB())], cv=2)

    deployed = deploy(save_sklearn(tmp_path / "m", model.fit(frame[::2], target[::2]), frame))

    deployed.assert_equals_pyfunc_exactly(frame)


def test_a_number_that_stands_for_a_gap(tmp_path: Path) -> None:
    frame, labels = cancer()
    marked = with_gaps(frame, -9.0)
    model = made("xgboost", "Classifier", missing=-9.0).fit(marked[::2], (labels == "benign")[::2])

    deployed = deploy(save_sklearn(tmp_path / "m", model, marked))

    deployed.assert_equals_pyfunc_exactly(marked)
    deployed.assert_equals_pyfunc_exactly(with_gaps(frame))


@pytest.mark.parametrize("ml_opset", [2, 5])
def test_a_server_of_other_versions_gets_what_it_loads(ml_opset: int, tmp_path: Path) -> None:
    """ai.onnx.ml before version 3 lacks trees in float64, and from version 5 on it has other operators for trees."""
    frame, target = diabetes()
    model = make_pipeline(StandardScaler(), made("lightgbm", "Regressor")).fit(frame, target)
    path = save_sklearn(tmp_path / "m", model, frame)

    with open_model(str(path)) as opened:
        limits = ServerLimits(opset=15 if ml_opset == 2 else 21, ml_opset=ml_opset, ir_version=10)
        blob = convert(opened, flavor="sklearn", limits=limits).blob

    onnx.checker.check_model(blob)
    versions = {item.domain: item.version for item in onnx.load_from_string(blob).opset_import}
    assert versions["ai.onnx.ml"] <= ml_opset


def test_what_has_no_form_is_told(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = make_pipeline(StandardScaler(), made("lightgbm", "Regressor", linear_tree=True)).fit(frame, target)

    with pytest.raises(NotConvertible, match=r"the scikit-learn model Pipeline: LightGBM's linear trees"):
        deploy(save_sklearn(tmp_path / "m", model, frame))


def test_the_names_that_are_registered_are_there() -> None:
    from mlflow_redisai.models.sklearn.boosting_steps import _STEPS

    for library, names in _STEPS.items():
        module = pytest.importorskip(library)
        assert all(hasattr(importlib.import_module(module.__name__), name) for name in names)
