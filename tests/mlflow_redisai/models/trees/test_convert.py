"""Inputs of boosted models, and versions of their graphs: the same for every library, tested with XGBoost."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from mlflow_redisai.deploy.choice import convert
from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.server.limits import ServerLimits
from support.boosted_models import cancer, diabetes, save_boosted
from support.local_runs import deploy

xgboost = pytest.importorskip("xgboost", reason='not installed: pip install "mlflow-redisai[xgboost]"')

TREES = {"n_estimators": 8}


@pytest.mark.parametrize("columns", ["named", "by position"])
def test_without_signature_the_trained_columns_are_taken(columns: str, tmp_path: Path) -> None:
    frame, labels = cancer()
    rows = frame if columns == "named" else frame.to_numpy()
    model = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(rows, labels == "benign"), 8)

    deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, rows, signature=False, input_example=None))

    deployed.assert_equals_pyfunc(rows)


def test_a_server_of_newer_versions_gets_what_it_loads(tmp_path: Path) -> None:
    """Newer versions of ai.onnx.ml have other operators for trees."""
    frame, target = diabetes()
    path = save_boosted(tmp_path / "m", "xgboost", xgboost.XGBRegressor(**TREES).fit(frame, target), frame)

    with open_model(str(path)) as opened:
        blob = convert(opened, flavor="xgboost", limits=ServerLimits(opset=21, ml_opset=5, ir_version=10)).blob

    onnx.checker.check_model(blob)


def test_text_without_categories_is_told(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = xgboost.XGBRegressor(**TREES).fit(frame, target)
    text = frame.astype({"bmi": str})

    with pytest.raises(NotConvertible, match="keeps no categories for the text column 'bmi'"):
        deploy(save_boosted(tmp_path / "m", "xgboost", model, text, input_example=None))


def test_another_number_of_columns_is_told(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = xgboost.XGBRegressor(**TREES).fit(frame.to_numpy(), target)

    with pytest.raises(NotConvertible, match="was trained on 10 columns, but its signature has 3"):
        deploy(save_boosted(tmp_path / "m", "xgboost", model, frame.iloc[:, :3], input_example=None))
