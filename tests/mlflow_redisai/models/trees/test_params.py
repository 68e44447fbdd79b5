"""Parameters in a signature: pyfunc passes their defaults to XGBoost's predict, so they count for a deployment too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.errors import NotConvertible
from support.boosted_models import save_boosted
from support.local_runs import deploy

xgboost = pytest.importorskip("xgboost", reason='not installed: pip install "mlflow-redisai[xgboost]"')

ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 2)), columns=list("ab"))
YES = (ROWS.a > 0).astype(int)


def made(kind: str, **options: Any) -> Any:
    if kind == "Booster":
        return xgboost.train({"objective": "binary:logistic", **options}, xgboost.DMatrix(ROWS, YES), 5)
    return getattr(xgboost, kind)(n_estimators=5, **options).fit(ROWS, YES)


def saved(path: Path, model: Any, params: dict[str, Any], flavor: str = "xgboost") -> Path:
    from mlflow.models import infer_signature

    return save_boosted(path, flavor, model, ROWS, signature=infer_signature(ROWS, params=params))


@pytest.mark.parametrize(
    "params",
    [
        {"output_margin": False},
        {"output_margin": True},
        {"iteration_range": [1, 3]},
        {"iteration_range": [0, 0]},
        {"iteration_range": [0, 2], "output_margin": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["XGBClassifier", "XGBRegressor", "Booster"])
def test_defaults_apply(kind: str, params: dict[str, Any], tmp_path: Path) -> None:
    deployed = deploy(saved(tmp_path / "m", made(kind), params))

    deployed.assert_equals_pyfunc(ROWS)
    assert deployed.predict(ROWS).dtype == deployed.expected(ROWS).dtype


def test_rounds_of_weighted_trees(tmp_path: Path) -> None:
    model = made("XGBRegressor", booster="dart", rate_drop=0.5)

    deploy(saved(tmp_path / "m", model, {"iteration_range": [1, 4]})).assert_equals_pyfunc(ROWS)


def test_rounds_of_the_signature_come_before_an_early_stop(tmp_path: Path) -> None:
    model = xgboost.XGBRegressor(n_estimators=30, early_stopping_rounds=2, learning_rate=1)
    model.fit(ROWS, ROWS.b, eval_set=[(ROWS, ROWS.a)], verbose=False)

    deploy(saved(tmp_path / "m", model, {"iteration_range": [0, 2]})).assert_equals_pyfunc(ROWS)


@pytest.mark.parametrize("name", ["pred_leaf", "pred_contribs", "strict_shape", "validate_features"])
def test_what_is_not_honoured_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match=f"the parameter {name}|signature's parameter {name} is True"):
        deploy(saved(tmp_path / "m", made("Booster"), {name: True}))


@pytest.mark.parametrize("params", [{"pred_leaf": True}, {"validate_features": True}, {"other": 3}], ids=str)
def test_what_the_estimator_does_not_take_has_no_effect(params: dict[str, Any], tmp_path: Path) -> None:
    deploy(saved(tmp_path / "m", made("XGBRegressor"), params)).assert_equals_pyfunc(ROWS)


@pytest.mark.parametrize("library", ["lightgbm", "catboost"])
def test_the_other_flavors_drop_parameters(library: str, tmp_path: Path) -> None:
    module = pytest.importorskip(library, reason=f'not installed: pip install "mlflow-redisai[{library}]"')
    if library == "lightgbm":
        model, params = module.LGBMRegressor(n_estimators=5, verbose=-1), {"raw_score": True}
    else:
        settings = {"iterations": 5, "verbose": 0, "allow_writing_files": False}
        model, params = module.CatBoostClassifier(**settings), {"prediction_type": "RawFormulaVal"}

    deploy(saved(tmp_path / "m", model.fit(ROWS, YES), params, library)).assert_equals_pyfunc(ROWS)
