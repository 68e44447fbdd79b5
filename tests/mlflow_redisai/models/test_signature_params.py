"""Parameters of a signature: their defaults are answered for, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from mlflow_redisai.errors import NotConvertible
from redisai_engine.codec.errors import InputMismatch
from support.boosted_models import save_boosted
from support.local_runs import Deployed, deploy, save_sklearn

FRAME = pd.DataFrame(np.random.default_rng(5).normal(size=(60, 2)), columns=["a", "b"])
TARGET = (FRAME["a"] > 0).astype(int)


def signature(params: dict[str, Any]) -> Any:
    return infer_signature(FRAME, params=params)


def xgboost_with(path: Path, params: dict[str, Any]) -> Deployed:
    xgboost = pytest.importorskip("xgboost", reason='xgboost is not installed: pip install "mlflow-redisai[boosting]"')
    model = xgboost.XGBRegressor(n_estimators=3, objective="reg:logistic").fit(FRAME, TARGET)
    return deploy(save_boosted(path, "xgboost", model, FRAME, signature=signature(params)))


def test_the_librarys_own_default_is_answered_for(tmp_path: Path) -> None:
    deployed = xgboost_with(tmp_path / "m", {"output_margin": False})

    deployed.assert_equals_pyfunc(FRAME)
    deployed.predict({"dataframe_records": FRAME.to_dict("records"), "params": {"output_margin": False}})
    with pytest.raises(InputMismatch, match="params ask for output_margin=True, but this deployment answers only for"):
        deployed.predict({"dataframe_records": FRAME.to_dict("records"), "params": {"output_margin": True}})


def test_a_default_that_changes_the_answer_is_applied(tmp_path: Path) -> None:
    deployed = xgboost_with(tmp_path / "m", {"output_margin": True})

    deployed.assert_equals_pyfunc(FRAME)
    with pytest.raises(InputMismatch, match="params ask for output_margin=False, but this deployment answers only for"):
        deployed.predict({"dataframe_records": FRAME.to_dict("records"), "params": {"output_margin": False}})


def test_a_default_that_no_conversion_applies_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason='torch is not installed: pip install "mlflow-redisai[torch]"')
    import mlflow.pytorch

    class Scaled(torch.nn.Module):  # type: ignore[misc]
        def forward(self, rows: Any, factor: float = 1.0) -> Any:
            return rows * factor

    rows = FRAME.to_numpy(np.float32)
    asked = infer_signature(rows, params={"factor": 2.0})
    mlflow.pytorch.save_model(Scaled(), tmp_path / "m", signature=asked, serialization_format="pickle")

    with pytest.raises(NotConvertible, match=r"factor has the default 2.0, but .* forward has 1.0, and a deployment"):
        deploy(tmp_path / "m")


def test_a_parameter_that_pyfunc_leaves_out_may_have_any_default(tmp_path: Path) -> None:
    model = LinearRegression().fit(FRAME, TARGET)

    deployed = deploy(save_sklearn(tmp_path / "m", model, FRAME, signature=signature({"level": 0.9, "names": ["x"]})))

    deployed.assert_equals_pyfunc(FRAME)
    assert dict(deployed.mapping.params) == {"level": 0.9, "names": ["x"]}
    with pytest.raises(InputMismatch, match=r"level=0.5, but this deployment answers only for level=0.9"):
        deployed.predict({"inputs": FRAME.to_dict("list"), "params": {"level": 0.5}})


def test_a_model_without_parameters_ignores_them_as_in_mlflow(tmp_path: Path) -> None:
    deployed = deploy(save_sklearn(tmp_path / "m", LinearRegression().fit(FRAME, TARGET), FRAME))
    envelope = {"inputs": FRAME.to_dict("list"), "params": {"level": 0.5}}

    assert deployed.predict(envelope).tolist() == deployed.predict(FRAME).tolist()
