"""Trees for RedisAI 1.2.7, whose ONNX Runtime 1.11 has kernels for the trees of ai.onnx.ml 1 only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlflow_redisai.models.graph import nodes
from mlflow_redisai.server.limits import ServerLimits, limits_of
from support.boosted_models import cancer, diabetes, save_boosted, with_gaps
from support.local_runs import deploy, save_sklearn

pytestmark = pytest.mark.slow

TREES = {"n_estimators": 8, "random_state": 1}
ROUNDS = {"max_iter": 8, "random_state": 1}
QUIET = {"iterations": 8, "verbose": 0, "allow_writing_files": False}


def boosted(library: str, name: str, **options: Any) -> Any:
    module = pytest.importorskip(library, reason=f'not installed: pip install "mlflow-redisai[{library}]"')
    return getattr(module, name)(**options)


# Flavor, whether it is a classifier, and how it is made.
FAMILIES: dict[str, tuple[str, bool, Callable[[], Any]]] = {
    "XGBClassifier": ("xgboost", True, lambda: boosted("xgboost", "XGBClassifier", n_estimators=8)),
    "XGBRegressor": ("xgboost", False, lambda: boosted("xgboost", "XGBRegressor", n_estimators=8)),
    "XGBRFRegressor": ("xgboost", False, lambda: boosted("xgboost", "XGBRFRegressor", n_estimators=8)),
    "dart": ("xgboost", False, lambda: boosted("xgboost", "XGBRegressor", n_estimators=8, booster="dart")),
    "gblinear": ("xgboost", False, lambda: boosted("xgboost", "XGBRegressor", n_estimators=8, booster="gblinear")),
    "LGBMClassifier": ("lightgbm", True, lambda: boosted("lightgbm", "LGBMClassifier", n_estimators=8, verbose=-1)),
    "LGBMRegressor": ("lightgbm", False, lambda: boosted("lightgbm", "LGBMRegressor", n_estimators=8, verbose=-1)),
    "CatBoostClassifier": ("catboost", True, lambda: boosted("catboost", "CatBoostClassifier", **QUIET)),
    "CatBoostRegressor": ("catboost", False, lambda: boosted("catboost", "CatBoostRegressor", **QUIET)),
    "HistGradientBoostingClassifier": ("sklearn", True, lambda: HistGradientBoostingClassifier(**ROUNDS)),
    "HistGradientBoostingRegressor": ("sklearn", False, lambda: HistGradientBoostingRegressor(**ROUNDS)),
    "GradientBoostingClassifier": ("sklearn", True, lambda: GradientBoostingClassifier(**TREES)),
    "GradientBoostingRegressor": ("sklearn", False, lambda: GradientBoostingRegressor(**TREES)),
    "RandomForestClassifier": ("sklearn", True, lambda: RandomForestClassifier(**TREES)),
    "RandomForestRegressor": ("sklearn", False, lambda: RandomForestRegressor(**TREES)),
    "ExtraTreesRegressor": ("sklearn", False, lambda: ExtraTreesRegressor(**TREES)),
    "DecisionTreeClassifier": ("sklearn", True, lambda: DecisionTreeClassifier(random_state=1)),
    "DecisionTreeRegressor": ("sklearn", False, lambda: DecisionTreeRegressor(random_state=1)),
    "LGBMRegressor in a pipeline": (
        "sklearn",
        False,
        lambda: make_pipeline(StandardScaler(), boosted("lightgbm", "LGBMRegressor", n_estimators=8, verbose=-1)),
    ),
    "XGBClassifier in a pipeline": (
        "sklearn",
        True,
        lambda: make_pipeline(StandardScaler(), boosted("xgboost", "XGBClassifier", n_estimators=8)),
    ),
}
TAKES_GAPS = ("xgboost", "lightgbm", "catboost")

OLD_LIMITS = {"unknown": ServerLimits(), "ONNX Runtime 1.11.1": limits_of("1.11.1")}


def versions_used(proto: onnx.ModelProto) -> set[tuple[str, str, int]]:
    """Return domain, operator and version of every node, as ONNX Runtime looks for its kernel."""
    opsets = {item.domain: item.version for item in proto.opset_import}
    return {
        (
            node.domain,
            node.op_type,
            onnx.defs.get_schema(node.op_type, opsets[node.domain], node.domain).since_version,
        )
        for node in nodes(proto.graph)
    }


@pytest.mark.parametrize("limits", OLD_LIMITS.values(), ids=list(OLD_LIMITS))
@pytest.mark.parametrize("family", FAMILIES)
def test_trees_have_kernels_in_redisai_and_answer_as_pyfunc(family: str, limits: ServerLimits, tmp_path: Path) -> None:
    flavor, classifies, make = FAMILIES[family]
    frame, target = cancer() if classifies else diabetes()
    if classifies:
        target = (target == "benign").astype(int)
    rows = with_gaps(frame) if flavor in TAKES_GAPS and family != "gblinear" else frame
    model = make().fit(rows[::2], target[::2])
    save = save_sklearn if flavor == "sklearn" else lambda path, *made: save_boosted(path, flavor, *made)

    deployed = deploy(save(tmp_path / "m", model, rows), limits=limits)

    deployed.assert_equals_pyfunc(rows)
    newest = {"": limits.opset, "ai.onnx.ml": 2}
    used = versions_used(onnx.load_from_string(deployed.deployable.blob))
    assert not [each for each in used if each[2] > (1 if each[1].startswith("TreeEnsemble") else newest[each[0]])]
