"""The reference of a boosted model is its own library, for chosen outputs and for rows with categories too."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_redisai.deploy.verification import PASSED, verify
from mlflow_redisai.errors import NotConvertible
from support.boosted_models import LIBRARIES, cancer, diabetes, digits, made, save_boosted, with_categories
from support.local_runs import Deployed, deploy

pytestmark = pytest.mark.slow


def compared_with(deployed: Deployed) -> tuple[str, str | None]:
    found = verify(deployed.run, deployed.deployable, deployed.model)
    return found.status, found.reference


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("library", LIBRARIES)
def test_labels_and_probabilities_are_the_classifiers_own(library: str, classes: int, tmp_path: Path) -> None:
    frame, target = digits() if classes == 10 else cancer()
    target = np.unique(target, return_inverse=True)[1]
    model = made(library, "Classifier").fit(frame[::2], target[::2])

    deployed = deploy(save_boosted(tmp_path / "m", library, model, frame), outputs="probabilities,label")

    name = f"{library}.{type(model).__name__}"
    assert compared_with(deployed) == (PASSED, f"{name}'s own predict_proba and predict")
    answer = deployed.predict(frame)
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(frame), rtol=1e-4, atol=1e-6)
    assert (answer["label"] == model.predict(frame).reshape(-1)).all()


@pytest.mark.parametrize("library", ["xgboost", "catboost"])
def test_several_labels(library: str, tmp_path: Path) -> None:
    frame, target = diabetes()
    several = np.column_stack([target > 100, target > 200]).astype(int)
    options = {"loss_function": "MultiLogloss"} if library == "catboost" else {}
    model = made(library, "Classifier", **options).fit(frame, several)

    deployed = deploy(save_boosted(tmp_path / "m", library, model, frame), outputs="probabilities")

    assert compared_with(deployed)[0] == PASSED
    np.testing.assert_allclose(deployed.predict(frame), model.predict_proba(frame), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_regressors_only_output_may_be_named(library: str, tmp_path: Path) -> None:
    """It has the graph's shape: one column."""
    frame, target = diabetes()
    model = made(library, "Regressor").fit(frame[::2], target[::2])
    path = save_boosted(tmp_path / "m", library, model, frame)

    named, unnamed = deploy(path, outputs="prediction"), deploy(path)

    assert compared_with(named) == (PASSED, f"{library}.{type(model).__name__}'s own predict")
    assert compared_with(unnamed) == (PASSED, "mlflow.pyfunc")
    np.testing.assert_allclose(named.predict(frame)[:, 0], unnamed.predict(frame), rtol=1e-6)


def test_a_booster_of_xgboost_is_asked_with_its_own_matrix(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    frame, target = diabetes()
    model = xgboost.train({}, xgboost.DMatrix(frame, target), 8)

    deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, frame), outputs="prediction")

    assert compared_with(deployed) == (PASSED, "xgboost.Booster's own predict")


class TestCategories:
    """MLflow refuses pandas categoricals, so pyfunc can't answer, and the reference is the library itself."""

    @pytest.mark.parametrize("outputs", [None, "prediction"])
    @pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
    def test_the_library_looks_them_up(self, library: str, outputs: str | None, tmp_path: Path) -> None:
        frame, target = diabetes()
        frame = with_categories(frame, 3)
        options: dict[str, Any] = {"enable_categorical": True} if library == "xgboost" else {}
        model = made(library, "Regressor", **options).fit(frame[::2], target[::2])
        _skip_without_names(library)
        text = frame.astype({"bmi": str, "s1": str})

        deployed = deploy(save_boosted(tmp_path / "m", library, model, text), outputs=outputs)

        assert compared_with(deployed) == (PASSED, f"{library}.{type(model).__name__}'s own predict")
        np.testing.assert_allclose(deployed.predict(text).reshape(-1), model.predict(frame), rtol=1e-5)

    @pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
    def test_missing_text_is_a_gap_as_in_the_library(self, library: str, tmp_path: Path) -> None:
        frame, target = diabetes()
        frame = with_categories(frame, 3)
        options: dict[str, Any] = {"enable_categorical": True} if library == "xgboost" else {}
        model = made(library, "Regressor", **options).fit(frame[::2], target[::2])
        _skip_without_names(library)
        text = frame.astype({"bmi": object, "s1": object})
        gaps = frame.assign(bmi=frame["bmi"].where(frame["s1"] == frame["s1"].iloc[0]))

        deployed = deploy(save_boosted(tmp_path / "m", library, model, text))

        for missing in (None, np.nan):
            rows = text.assign(bmi=gaps["bmi"].astype(object).where(gaps["bmi"].notna(), missing))
            np.testing.assert_allclose(deployed.predict(rows), model.predict(gaps), rtol=1e-5)

    def test_what_xgboost_itself_keeps_wrongly_is_not_deployed(self, tmp_path: Path) -> None:
        """It counts characters where it cuts bytes, which truncates the name of a category that isn't ASCII."""
        frame, target = diabetes()
        frame = with_categories(frame, 3)
        frame = frame.assign(bmi=frame["bmi"].cat.rename_categories(["Köln", "Bonn", "Zürich"]))
        model = made("xgboost", "Regressor", enable_categorical=True).fit(frame[::2], target[::2])
        _skip_without_names("xgboost")
        text = frame.astype({"bmi": str, "s1": str})

        with pytest.raises(NotConvertible, match="XGBoost itself keeps categories with letters beyond ASCII cut short"):
            deploy(save_boosted(tmp_path / "m", "xgboost", model, text, input_example=text[:50]))


def _skip_without_names(library: str) -> None:
    version = tuple(int(number) for number in importlib.import_module(library).__version__.split(".")[:2])
    if library == "xgboost" and version < (3, 1):
        pytest.skip("XGBoost stores the names of categories from 3.1 on")
