"""CatBoost models answer as mlflow.pyfunc does, on rows that they weren't trained on, including gaps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_redisai.errors import NotConvertible
from support.boosted_models import cancer, diabetes, digits, save_boosted, with_gaps
from support.local_runs import deploy

catboost = pytest.importorskip("catboost", reason='not installed: pip install "mlflow-redisai[catboost]"')

TREES: dict[str, Any] = {"iterations": 12, "verbose": 0, "allow_writing_files": False}

REGRESSORS: dict[str, Callable[[], Any]] = {
    "trees": lambda: catboost.CatBoostRegressor(**TREES),
    "counts": lambda: catboost.CatBoostRegressor(loss_function="Poisson", **TREES),
    "tweedie": lambda: catboost.CatBoostRegressor(loss_function="Tweedie:variance_power=1.5", **TREES),
    "quantile": lambda: catboost.CatBoostRegressor(loss_function="Quantile:alpha=0.3", **TREES),
    "leaf by leaf": lambda: catboost.CatBoostRegressor(grow_policy="Lossguide", **TREES),
    "level by level": lambda: catboost.CatBoostRegressor(grow_policy="Depthwise", **TREES),
    "without a task": lambda: catboost.CatBoost({"loss_function": "RMSE", **TREES}),
}


@pytest.mark.parametrize("labels", ["text", "truth values", "floating point", "ten numbers"])
def test_a_classifier_gives_labels(labels: str, tmp_path: Path) -> None:
    frame, target = digits() if labels == "ten numbers" else cancer()
    if labels in {"truth values", "floating point"}:
        target = (target == "benign").astype(bool if labels == "truth values" else float)
    model = catboost.CatBoostClassifier(**TREES).fit(frame[::2], target[::2])

    deployed = deploy(save_boosted(tmp_path / "m", "catboost", model, frame))

    deployed.assert_equals_pyfunc_exactly(frame)
    answer, expected = deployed.predict(frame), deployed.expected(frame)
    assert (answer.dtype, answer.shape) == (expected.dtype, expected.shape)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["MultiClassOneVsAll", "MultiLogloss", "CrossEntropy"])
def test_the_losses_of_classifiers(loss: str, tmp_path: Path) -> None:
    frame, digit = digits()
    several = np.column_stack([digit > 4, digit % 2]).astype(int)
    target = {"MultiLogloss": several, "CrossEntropy": digit % 2}.get(loss, digit)
    model = catboost.CatBoostClassifier(loss_function=loss, **TREES).fit(frame[::2], target[::2])

    deploy(save_boosted(tmp_path / "m", "catboost", model, frame)).assert_equals_pyfunc_exactly(frame)


@pytest.mark.slow
@pytest.mark.parametrize("kind", REGRESSORS)
def test_a_regressor_gives_numbers(kind: str, tmp_path: Path) -> None:
    frame, target = diabetes()
    model = REGRESSORS[kind]().fit(frame[::2], target[::2])

    deployed = deploy(save_boosted(tmp_path / "m", "catboost", model, frame))

    deployed.assert_equals_pyfunc(frame, within=1e-6)
    assert deployed.predict(frame).dtype == np.float64


def test_several_targets(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = catboost.CatBoostRegressor(loss_function="MultiRMSE", **TREES)
    model.fit(frame[::2], np.column_stack([target, -target])[::2])

    deploy(save_boosted(tmp_path / "m", "catboost", model, frame)).assert_equals_pyfunc(frame)


def test_a_ranker(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = catboost.CatBoostRanker(**TREES).fit(frame[::2], target[::2] / 400, group_id=np.repeat(range(17), 13))

    deploy(save_boosted(tmp_path / "m", "catboost", model, frame)).assert_equals_pyfunc(frame)


@pytest.mark.parametrize("nan_mode", ["Min", "Max"])
def test_gaps_are_below_or_above_everything(nan_mode: str, tmp_path: Path) -> None:
    frame, target = diabetes()
    gaps = with_gaps(frame)
    model = catboost.CatBoostRegressor(nan_mode=nan_mode, **TREES).fit(gaps[::2], target[::2])

    deployed = deploy(save_boosted(tmp_path / "m", "catboost", model, frame))

    deployed.assert_equals_pyfunc(gaps)


def test_arrays_and_no_signature(tmp_path: Path) -> None:
    frame, labels = cancer()
    rows = frame.to_numpy()
    model = catboost.CatBoostClassifier(**TREES).fit(rows[::2], labels[::2])

    with_signature = deploy(save_boosted(tmp_path / "a", "catboost", model, rows))
    without = deploy(save_boosted(tmp_path / "b", "catboost", model, rows, signature=False, input_example=None))

    with_signature.assert_equals_pyfunc_exactly(rows)
    assert without.mapping.inputs[0].shape == (None, 30)
    assert (without.predict(rows) == without.expected(rows)).all()


def test_categories_are_refused_by_name(tmp_path: Path) -> None:
    frame, target = diabetes()
    frame = frame.assign(sex=(frame["sex"] > 0).map({True: "m", False: "f"}))
    model = catboost.CatBoostRegressor(cat_features=["sex"], **TREES).fit(frame, target)

    with pytest.raises(
        NotConvertible, match=r"encoding of categories \(column sex\) can't be expressed in ONNX; encode them"
    ):
        deploy(save_boosted(tmp_path / "m", "catboost", model, frame))


def test_text_is_refused_by_name(tmp_path: Path) -> None:
    """CatBoost itself can't save such a model as JSON."""
    frame, target = diabetes()
    frame = frame.assign(note=np.where(target > 100, "much more", "far less"))[["age", "note"]]
    model = catboost.CatBoostClassifier(text_features=["note"], **TREES).fit(frame, target > 100)

    with pytest.raises(NotConvertible, match=r"encoding of text \(column note\) can't be expressed in ONNX"):
        deploy(save_boosted(tmp_path / "m", "catboost", model, frame, input_example=None))


def test_a_format_without_the_description_is_refused(tmp_path: Path) -> None:
    """CatBoost crashes when it describes a model that it has read from its ONNX form."""
    frame, labels = cancer()
    model = catboost.CatBoostClassifier(**TREES).fit(frame, (labels == "benign").astype(int))

    with pytest.raises(NotConvertible, match="was saved in the format onnx, which loses its description"):
        deploy(save_boosted(tmp_path / "m", "catboost", model, frame, format="onnx"))


def test_a_mean_has_its_variance_beside_it(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = catboost.CatBoostRegressor(loss_function="RMSEWithUncertainty", **TREES).fit(frame, target)

    deployed = deploy(save_boosted(tmp_path / "m", "catboost", model, frame))

    deployed.assert_equals_pyfunc(frame)
    assert deployed.predict(frame).shape == (len(frame), 2)
