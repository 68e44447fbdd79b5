"""
Models of every objective, booster and option answer as their libraries do on rows at their own edges, or are refused.

The reference is mlflow.pyfunc, which calls the library. Where it raises, the deployment refuses the rows too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.errors import NotConvertible
from redisai_engine.codec.compare import compare, tolerance_of
from redisai_engine.codec.errors import InputMismatch
from support.boosted_models import save_boosted
from support.boosted_rows import edges, thresholds
from support.local_runs import Deployed, deploy

RANDOM = np.random.default_rng(0)
ROWS = pd.DataFrame(np.round(RANDOM.normal(size=(300, 4)), 2), columns=list("abcd"))
ROWS.iloc[::7, 1] = np.nan
ROWS.iloc[::5, 2] = 0
NUMBER = np.nan_to_num(ROWS.a.to_numpy()) * 2 + np.nan_to_num(ROWS.b.to_numpy()) + RANDOM.normal(size=300) * 0.1
POSITIVE = np.exp(NUMBER / 3)
SHARE = 1 / (1 + np.exp(-NUMBER))
YES = (NUMBER > 0).astype(int)
THREE = np.digitize(NUMBER, [-1, 1])
SEVERAL = np.column_stack([NUMBER, -NUMBER])
GROUPS = np.repeat(range(10), 30)

CODES = ROWS.assign(c=RANDOM.integers(0, 7, 300) * 1.0, d=RANDOM.integers(0, 40, 300))
CODED = np.isin(CODES.c, [0, 2, 5]) * 5 + np.isin(CODES.d % 7, [1, 2]) * 9 + NUMBER

Made = Callable[[Any], Any]
MODELS: dict[str, tuple[str, Made, Any]] = {}


def add(library: str, name: str, make: Made, rows: Any = ROWS) -> None:
    MODELS[f"{library}: {name}"] = (library, make, rows)


# -- XGBoost --------------------------------------------------------------------------------------

XGBOOST = {
    "reg:squarederror": NUMBER,
    "reg:squaredlogerror": POSITIVE,
    "reg:logistic": SHARE,
    "reg:pseudohubererror": NUMBER,
    "reg:absoluteerror": NUMBER,
    "reg:quantileerror": NUMBER,
    "binary:logistic": YES,
    "binary:logitraw": YES,
    "binary:hinge": YES,
    "count:poisson": np.floor(POSITIVE),
    "survival:cox": POSITIVE,
    "survival:aft": POSITIVE,
    "reg:gamma": POSITIVE,
    "reg:tweedie": POSITIVE,
    "rank:pairwise": YES,
    "rank:ndcg": YES,
    "rank:map": YES,
    "multi:softmax": THREE,
    "multi:softprob": THREE,
}


def xgboost_booster(objective: str, booster: str) -> Made:
    def make(xgboost: Any) -> Any:
        target = XGBOOST[objective]
        data = xgboost.DMatrix(ROWS, target, group=[30] * 10 if objective.startswith("rank") else None)
        if objective == "survival:aft":
            data.set_float_info("label_lower_bound", target)
            data.set_float_info("label_upper_bound", target * 2)
        settings = {"objective": objective, "booster": booster, "max_depth": 3, "eta": 0.5}
        if booster == "dart":
            settings["rate_drop"] = 0.5
        if objective.startswith("multi"):
            settings["num_class"] = 3
        if objective == "reg:quantileerror":
            settings["quantile_alpha"] = [0.2, 0.8]
        return xgboost.train(settings, data, 6)

    return make


for objective in XGBOOST:
    for booster in ("gbtree", "dart", "gblinear"):
        add("xgboost", f"{objective}, {booster}", xgboost_booster(objective, booster))


def xgboost_estimator(kind: str, target: Any, rows: Any = ROWS, **options: Any) -> Made:
    settings = {"n_estimators": 6, "max_depth": 3, **options}
    return lambda xgboost: getattr(xgboost, kind)(**settings).fit(rows, target)


for missing in (0.0, -0.5, np.inf, 1e300):
    filled = ROWS.fillna(missing)
    add("xgboost", f"missing={missing}", xgboost_estimator("XGBRegressor", NUMBER, filled, missing=missing), filled)
for base_score in (0.5, -3.7, 1e8):
    add("xgboost", f"base_score={base_score}", xgboost_estimator("XGBRegressor", NUMBER, base_score=base_score))
for objective, target in {
    "binary:logistic": YES,
    "binary:hinge": YES,
    "binary:logitraw": YES,
    "reg:squarederror": YES,
    "multi:softmax": THREE,
    "multi:softprob": THREE,
}.items():
    add("xgboost", f"classes, {objective}", xgboost_estimator("XGBClassifier", target, objective=objective))
for strategy in ("one_output_per_tree", "multi_output_tree"):
    for kind, target in {"XGBRegressor": SEVERAL, "XGBClassifier": SEVERAL > 0}.items():
        add("xgboost", f"{kind}, {strategy}", xgboost_estimator(kind, target, multi_strategy=strategy))
add("xgboost", "a single class", xgboost_estimator("XGBClassifier", np.zeros(300)))
add("xgboost", "a forest", xgboost_estimator("XGBRFClassifier", THREE))
add("xgboost", "parallel trees", xgboost_estimator("XGBClassifier", THREE, num_parallel_tree=3))
add("xgboost", "no trees", lambda xgboost: xgboost.train({}, xgboost.DMatrix(ROWS, NUMBER), 0))
add("xgboost", "some rounds", lambda xgboost: xgboost.train({}, xgboost.DMatrix(ROWS, NUMBER), 6)[2:4])
add(
    "xgboost",
    "an objective of the user's own",
    xgboost_estimator("XGBRegressor", NUMBER, objective=lambda label, score: (score - label, np.ones_like(label))),
)
for size in (1, 100):
    add(
        "xgboost",
        f"codes, max_cat_to_onehot={size}",
        xgboost_estimator(
            "XGBRegressor",
            CODED,
            CODES,
            enable_categorical=True,
            feature_types=["q", "q", "c", "c"],
            max_cat_to_onehot=size,
        ),
        CODES,
    )

# -- LightGBM -------------------------------------------------------------------------------------

LIGHTGBM = {
    "regression": NUMBER,
    "regression_l1": NUMBER,
    "huber": NUMBER,
    "fair": NUMBER,
    "poisson": np.floor(POSITIVE),
    "quantile": NUMBER,
    "mape": POSITIVE,
    "gamma": POSITIVE,
    "tweedie": POSITIVE,
    "binary": YES,
    "multiclass": THREE,
    "multiclassova": THREE,
    "cross_entropy": SHARE,
    "cross_entropy_lambda": SHARE,
    "lambdarank": YES,
    "rank_xendcg": YES,
}


def lightgbm_booster(target: Any, rows: Any = ROWS, codes: Any = "auto", group: Any = None, **options: Any) -> Made:
    def make(lightgbm: Any) -> Any:
        data = lightgbm.Dataset(rows, np.asarray(target, float), group=group, categorical_feature=codes)
        return lightgbm.train({"verbose": -1, "num_leaves": 7, **options}, data, 6)

    return make


for objective, target in LIGHTGBM.items():
    for boosting in ("gbdt", "dart", "rf"):
        given: dict[str, Any] = {"objective": objective, "boosting": boosting}
        if boosting == "rf":
            given |= {"bagging_freq": 1, "bagging_fraction": 0.6}
        if objective.startswith("multiclass"):
            given["num_class"] = 3
        group = [30] * 10 if "rank" in objective else None
        add("lightgbm", f"{objective}, {boosting}", lightgbm_booster(target, group=group, **given))

LIGHTGBM_OPTIONS: list[dict[str, Any]] = [
    {"zero_as_missing": True},
    {"use_missing": False},
    {"zero_as_missing": True, "use_missing": False},
    {"reg_sqrt": True},
    {"extra_trees": True},
    {"max_bin": 5},
    {"boost_from_average": False},
    {"predict_raw_score": True},
    {"start_iteration_predict": 2},
    {"num_iteration_predict": 3},
    {"predict_disable_shape_check": True},
]
for given in LIGHTGBM_OPTIONS:
    add("lightgbm", f"{given}", lightgbm_booster(NUMBER, **given))
add("lightgbm", "sigmoid=2.5", lightgbm_booster(YES, objective="binary", sigmoid=2.5))
add("lightgbm", "an objective of the user's own", lightgbm_booster(NUMBER, objective=lambda p, d: (p, np.ones_like(p))))
for given in ({}, {"max_cat_to_onehot": 100}, {"use_missing": False}, {"zero_as_missing": True}):
    some: dict[str, Any] = {"cat_smooth": 1, "min_data_per_group": 1, "max_cat_to_onehot": 1, **given}
    add("lightgbm", f"codes, {given}", lightgbm_booster(CODED, CODES, ["c", "d"], **some), CODES)


def lightgbm_classifier(target: Any, **options: Any) -> Made:
    return lambda lightgbm: lightgbm.LGBMClassifier(n_estimators=6, verbose=-1, num_leaves=7, **options).fit(
        ROWS, target
    )


for objective in ("binary", "cross_entropy", "cross_entropy_lambda", "regression"):
    add("lightgbm", f"classes, {objective}", lightgbm_classifier(YES, objective=objective))
for objective in ("multiclass", "multiclassova"):
    add("lightgbm", f"classes, {objective}", lightgbm_classifier(np.array(["é", "b", "z"])[THREE], objective=objective))

# -- CatBoost -------------------------------------------------------------------------------------

CATBOOST = {
    "RMSE": NUMBER,
    "MAE": NUMBER,
    "Quantile:alpha=0.2": NUMBER,
    "LogLinQuantile:alpha=0.3": POSITIVE,
    "Poisson": POSITIVE,
    "MAPE": POSITIVE,
    "Lq:q=3": NUMBER,
    "Huber:delta=1": NUMBER,
    "Expectile:alpha=0.3": NUMBER,
    "Tweedie:variance_power=1.5": POSITIVE,
    "LogCosh": NUMBER,
    "Cox": POSITIVE,
    "RMSEWithUncertainty": NUMBER,
    "MultiRMSE": SEVERAL,
    "MultiQuantile:alpha=0.1,0.9": NUMBER,
    "SurvivalAft": np.column_stack([POSITIVE, POSITIVE * 2]),
}
CATBOOST_CLASSES = {
    "Logloss": YES,
    "CrossEntropy": SHARE,
    "Focal:focal_alpha=0.5;focal_gamma=2": YES,
    "MultiClass": THREE,
    "MultiClassOneVsAll": THREE,
    "MultiLogloss": (SEVERAL > 0).astype(int),
    "MultiCrossEntropy": 1 / (1 + np.exp(-SEVERAL)),
}


def catboost_model(kind: str, target: Any, then: Callable[[Any], Any] = lambda model: None, **options: Any) -> Made:
    def make(catboost: Any) -> Any:
        settings = {"iterations": 6, "depth": 3, "verbose": 0, "allow_writing_files": False, **options}
        given = {"group_id": GROUPS} if kind == "CatBoostRanker" else {}
        model = getattr(catboost, kind)(settings) if kind == "CatBoost" else getattr(catboost, kind)(**settings)
        model.fit(ROWS, target, **given)
        then(model)
        return model

    return make


for kind, losses in {"CatBoostRegressor": CATBOOST, "CatBoostClassifier": CATBOOST_CLASSES}.items():
    for loss, target in losses.items():
        add("catboost", f"{kind}, {loss}", catboost_model(kind, target, loss_function=loss))
        add("catboost", f"CatBoost, {loss}", catboost_model("CatBoost", target, loss_function=loss))
for loss in ("YetiRank", "QueryRMSE", "QuerySoftMax", "PairLogit", "LambdaMart"):
    add("catboost", loss, catboost_model("CatBoostRanker", YES / 2, loss_function=loss))

CATBOOST_OPTIONS: list[dict[str, Any]] = [
    {"grow_policy": "Lossguide"},
    {"grow_policy": "Depthwise"},
    {"nan_mode": "Max"},
    {"boosting_type": "Ordered"},
    {"border_count": 3},
    {"boost_from_average": False},
    {"model_shrink_rate": 0.1},
    {"ignored_features": [0, 3]},
]
for given in CATBOOST_OPTIONS:
    add("catboost", f"{given}", catboost_model("CatBoostRegressor", NUMBER, **given))
for threshold in (0.2, 0.8):
    raised = catboost_model("CatBoostClassifier", YES, lambda model, p=threshold: model.set_probability_threshold(p))
    add("catboost", f"probability above {threshold}", raised)
add("catboost", "scale", catboost_model("CatBoostRegressor", NUMBER, lambda model: model.set_scale_and_bias(2.0, 5.0)))
add("catboost", "shrunk", catboost_model("CatBoostRegressor", NUMBER, lambda model: model.shrink(5, 2)))
add(
    "catboost",
    "a sum",
    lambda catboost: catboost.sum_models(
        [catboost_model("CatBoostRegressor", NUMBER, random_seed=seed)(catboost) for seed in (1, 2)], weights=[0.3, 0.7]
    ),
)

# -- the tests ------------------------------------------------------------------------------------

# A model of every kind of node, link and label.
QUICK = (
    "xgboost: binary:logistic, dart",
    "xgboost: missing=-0.5",
    "xgboost: classes, binary:hinge",
    "xgboost: codes, max_cat_to_onehot=100",
    "xgboost: no trees",
    "lightgbm: regression_l1, rf",
    "lightgbm: {'zero_as_missing': True}",
    "lightgbm: codes, {}",
    "lightgbm: classes, regression",
    "catboost: CatBoostRegressor, RMSEWithUncertainty",
    "catboost: probability above 0.8",
    "catboost: {'grow_policy': 'Lossguide'}",
)


@pytest.mark.parametrize("name", QUICK)
def test_it_answers_as_its_library(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name not in QUICK])
def test_every_other_one_does(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


def check(name: str, folder: Path) -> None:
    library, make, rows = MODELS[name]
    module = pytest.importorskip(library, reason=f'not installed: pip install "mlflow-redisai[{library}]"')
    model = make(module)

    deployed = deploy(save_boosted(folder / "m", library, model, rows))

    given = edges(rows.to_numpy(), thresholds(library, model))
    for kind, numbers in {"training": rows.to_numpy(), **given}.items():
        assert_same(deployed, with_types(numbers, rows), kind)


def with_types(numbers: np.ndarray, like: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with the columns and types of `like`. Numbers that a type can't hold become zero."""
    made = pd.DataFrame(numbers, columns=like.columns)
    for column in like.columns[(like.dtypes == "int64").to_numpy()]:
        fits = np.abs(made[column]) < 2**53
        made[column] = made[column].where(fits, 0).astype(np.int64)
    return made


def assert_same(deployed: Deployed, rows: pd.DataFrame, kind: str) -> None:
    try:
        expected = deployed.expected(rows)
    # The libraries' own errors, and MLflow's.
    except Exception:
        with pytest.raises(InputMismatch):
            deployed.predict(rows)
        return
    found = deployed.predict(rows)
    assert found.dtype == expected.dtype, kind
    assert found.shape == expected.shape, kind
    compare(expected, found, tolerance_of(deployed.mapping))


@pytest.mark.parametrize(
    ("library", "kind", "options", "reason"),
    [
        (
            "xgboost",
            "XGBClassifier",
            {"objective": "count:poisson"},
            "XGBClassifier with the objective count:poisson",
        ),
        ("lightgbm", "LGBMRegressor", {"linear_tree": True}, r"linear trees \(linear_tree=True\) can't be expressed"),
        ("lightgbm", "LGBMClassifier", {"objective": "poisson"}, "LGBMClassifier with the objective poisson is not"),
    ],
)
def test_what_has_no_form_is_refused_by_name(
    library: str, kind: str, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    pytest.importorskip(library, reason=f'not installed: pip install "mlflow-redisai[{library}]"')
    quiet = {"verbose": -1} if library == "lightgbm" else {}
    model = getattr(importlib.import_module(library), kind)(n_estimators=3, **quiet, **options).fit(ROWS, YES)

    with pytest.raises(NotConvertible, match=reason):
        deploy(save_boosted(tmp_path / "m", library, model, ROWS))
