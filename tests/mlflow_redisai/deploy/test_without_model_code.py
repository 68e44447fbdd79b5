"""
With MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false, only files that hold no code are deployed, and nobody answers for them.

In a child process, as a deployment does it, and with any version of MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_redisai import RedisAIClient, errors
from mlflow_redisai.deploy.assignment import Assignment
from mlflow_redisai.deploy.choice import convert
from mlflow_redisai.deploy.process import ConversionProcess
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.loading import CODE_VARIABLE, open_model
from mlflow_redisai.models.reference import NoReference
from mlflow_redisai.server.limits import ServerLimits
from support.hostile_models import Note, save_trap
from support.local_runs import save_sklearn
from support.mlflow_models import LoggedModel
from support.saved_models import save_multiplication

NOT_VERIFIED = "MLflow may not run the model here"


@pytest.fixture(scope="module")
def child() -> Iterator[ConversionProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CODE_VARIABLE, "false")
        child = ConversionProcess()
    yield child
    child.close()


def converted(child: ConversionProcess, path: str, flavor: str) -> Deployable:
    return child.convert(
        Assignment(
            uri="the:model",
            path=path,
            flavor=flavor,
            backend="ONNX",
            opset=None,
            limits=ServerLimits(),
            outputs=None,
        )
    )


def refusal(child: ConversionProcess, path: str, flavor: str) -> str:
    with pytest.raises(errors.NotConvertible) as caught:
        converted(child, path, flavor)
    message = str(caught.value.message)
    start = f"{CODE_VARIABLE} is false, and loading the {flavor} model the:model would run code that it brings: "
    assert message.startswith(start)
    return message.removeprefix(start)


@pytest.fixture
def numbers() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    rows = random.normal(size=(60, 3))
    return rows, rows.sum(axis=1)


def save_booster(folder: Path, library: str, model: Any, rows: np.ndarray) -> str:
    import importlib

    from mlflow.models import infer_signature

    flavor = importlib.import_module(f"mlflow.{library}")
    flavor.save_model(model, str(folder), signature=infer_signature(rows), input_example=rows[:3], pip_requirements=[])
    return str(folder)


def test_an_onnx_model_is_converted_and_not_verified(child: ConversionProcess, tmp_path: Path) -> None:
    found = converted(child, save_multiplication(tmp_path / "m", 2.0).uri, "onnx")

    assert (found.reference, found.notes) == (NoReference(NOT_VERIFIED), ())


@pytest.mark.slow
def test_types_that_skops_trusts_are_converted(child: ConversionProcess, saved_wine: LoggedModel) -> None:
    assert converted(child, saved_wine.uri, "sklearn").reference == NoReference(NOT_VERIFIED)


@pytest.mark.slow
def test_a_type_that_only_the_model_says_to_trust_is_refused(
    child: ConversionProcess, numbers: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(*numbers)
    model.note = Note("MLmodel says that this class is to be trusted")
    trusted = [f"{Note.__module__}.{Note.__name__}"]
    path = save_sklearn(tmp_path / "m", model, numbers[0], serialization_format="skops", skops_trusted_types=trusted)

    assert refusal(child, str(path), "sklearn").startswith("skops doesn't trust it (")


def test_a_pickle_is_refused_and_never_loaded(child: ConversionProcess, tmp_path: Path) -> None:
    path = save_trap("hang", tmp_path)

    assert refusal(child, path, "sklearn") == (
        "its serialization_format is cloudpickle; log it with serialization_format='skops'"
    )
    assert not (tmp_path / "processes").exists()


@pytest.mark.slow
def test_the_boosters_own_files_are_converted(
    child: ConversionProcess, numbers: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """LightGBM's scikit-learn classes are pickled by MLflow, XGBoost's are not."""
    import lightgbm
    import xgboost

    rows, targets = numbers
    trees = xgboost.XGBRegressor(n_estimators=3).fit(rows, targets)
    leaves = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1).fit(rows, targets)
    own = save_booster(tmp_path / "xgboost", "xgboost", trees, rows)
    booster = save_booster(tmp_path / "lightgbm", "lightgbm", leaves.booster_, rows)
    pickled = save_booster(tmp_path / "pickled", "lightgbm", leaves, rows)

    assert converted(child, own, "xgboost").reference == NoReference(NOT_VERIFIED)
    assert converted(child, booster, "lightgbm").reference == NoReference(NOT_VERIFIED)
    assert refusal(child, pickled, "lightgbm") == "its model_class is lightgbm.sklearn.LGBMRegressor; log its booster_"


@pytest.mark.slow
def test_code_in_a_folder_is_refused(child: ConversionProcess, saved_wine: LoggedModel, tmp_path: Path) -> None:
    import shutil

    import yaml

    folder = Path(shutil.copytree(saved_wine.uri, tmp_path / "model"))
    settings = yaml.safe_load((folder / "MLmodel").read_text())
    settings["flavors"]["python_function"]["code"] = "code"
    (folder / "MLmodel").write_text(yaml.safe_dump(settings))

    assert refusal(child, str(folder), "sklearn") == "it brings a folder with code"


@pytest.mark.slow
def test_the_user_is_told(client: RedisAIClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CODE_VARIABLE, "false")

    created = client.create_deployment("codeless:onnx", save_multiplication(tmp_path / "m", 2.0).uri)

    assert created["notes"] == [f"not verified: {NOT_VERIFIED}"]
    assert created["verification"]["status"] == f"not verified: {NOT_VERIFIED}"


@pytest.mark.parametrize("allowed", [True, False])
def test_a_python_model_is_taken_only_where_code_may_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, allowed: bool
) -> None:
    """It isn't loaded for that."""
    monkeypatch.setenv(CODE_VARIABLE, "true" if allowed else "false")
    files = {"MLmodel": "flavors:\n  python_function: {}\n", "requirements.txt": "mlflow\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    with open_model(str(tmp_path)) as model:
        if allowed:
            found = convert(model, flavor="python_function", backend="PYFUNC")
            assert (found.backend, found.mapping.parcel) == ("PYFUNC", True)
            return
        with pytest.raises(errors.NotConvertible) as caught:
            convert(model, flavor="python_function", backend="PYFUNC")
    assert caught.value.message == f"the model {tmp_path} can't run as Python, because {CODE_VARIABLE} is false"
