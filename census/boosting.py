"""
XGBoost, LightGBM and CatBoost: every objective in the library's own form and in scikit-learn's, every kind of booster,
and the parameters that change how a tree is read. The libraries' estimators also stand in scikit-learn's pipelines.

Columns of numbers keep their gaps. Categories are a change of their own (`categories`), made of the mixed data's text.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from census import data as sets
from census.data import Data
from census.rows import CannotTrain, Family, Question, Row, Trained, shown
from census.scikit import WITHIN, save_sklearn

_ROUNDS = 8

#: For each objective, the kind of target that it learns.
_XGBOOST = {
    "binary:hinge": "binary",
    "binary:logistic": "binary",
    "binary:logitraw": "binary",
    "count:poisson": "counts",
    "multi:softmax": "classes",
    "multi:softprob": "classes",
    "rank:map": "ranks",
    "rank:ndcg": "ranks",
    "rank:pairwise": "ranks",
    "reg:absoluteerror": "numbers",
    "reg:expectileerror": "numbers",
    "reg:gamma": "positive",
    "reg:logistic": "binary",
    "reg:pseudohubererror": "numbers",
    "reg:quantileerror": "numbers",
    "reg:squarederror": "numbers",
    "reg:squaredlogerror": "positive",
    "reg:tweedie": "positive",
    "survival:aft": "bounds",
    "survival:cox": "positive",
}
_LIGHTGBM = {
    "binary": "binary",
    "cross_entropy": "binary",
    "cross_entropy_lambda": "binary",
    "fair": "numbers",
    "gamma": "positive",
    "huber": "numbers",
    "lambdarank": "ranks",
    "mape": "positive",
    "multiclass": "classes",
    "multiclassova": "classes",
    "poisson": "counts",
    "quantile": "numbers",
    "rank_xendcg": "ranks",
    "regression": "numbers",
    "regression_l1": "numbers",
    "tweedie": "positive",
}
_CATBOOST = {
    "Cox": "positive",
    "CrossEntropy": "binary",
    "Expectile:alpha=0.3": "numbers",
    "Focal:focal_alpha=0.5;focal_gamma=1.0": "binary",
    "Huber:delta=1.0": "numbers",
    "LogCosh": "numbers",
    "Logloss": "binary",
    "Lq:q=3": "numbers",
    "MAE": "numbers",
    "MAPE": "positive",
    "MultiClass": "classes",
    "MultiClassOneVsAll": "classes",
    "MultiCrossEntropy": "several labels",
    "MultiLogloss": "several labels",
    "MultiQuantile:alpha=0.1,0.9": "numbers",
    "MultiRMSE": "several",
    "Poisson": "counts",
    "Quantile:alpha=0.3": "numbers",
    "QueryRMSE": "ranks",
    "RMSE": "numbers",
    "RMSEWithUncertainty": "numbers",
    "Tweedie:variance_power=1.5": "positive",
    "YetiRank": "ranks",
}

_NONE: dict[str, Any] = {}
#: Changes of parameters, tried with one objective of every kind of target.
_CHANGES: dict[str, tuple[dict[str, Any], ...]] = {
    "xgboost": (
        {"booster": "gblinear"},
        {"booster": "dart", "rate_drop": 0.3},
        {"tree_method": "exact"},
        {"tree_method": "approx"},
        {"grow_policy": "lossguide", "max_leaves": 5},
        {"num_parallel_tree": 3, "subsample": 0.7, "learning_rate": 1.0},
        {"base_score": 0.3},
        {"missing": -1.0},
        {"missing": 0.0},
        {"max_depth": 1},
        {"scale_pos_weight": 3.0},
        {"multi_strategy": "multi_output_tree"},
        {"categories": True},
        {"categories": True, "max_cat_to_onehot": 1},
    ),
    "lightgbm": (
        {"boosting_type": "dart"},
        {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
        {"data_sample_strategy": "goss"},
        {"linear_tree": True},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"extra_trees": True},
        {"max_bin": 4},
        {"max_depth": 1},
        {"boost_from_average": False},
        {"sigmoid": 2.0},
        {"reg_sqrt": True},
        {"categories": True},
        {"categories": True, "max_cat_to_onehot": 1},
    ),
    "catboost": (
        {"grow_policy": "Depthwise"},
        {"grow_policy": "Lossguide"},
        {"nan_mode": "Max"},
        {"border_count": 4},
        {"depth": 1},
        {"boost_from_average": True},
        {"boosting_type": "Ordered"},
        {"categories": True},
        {"categories": True, "one_hot_max_size": 10},
    ),
}
_TABLES = {"xgboost": _XGBOOST, "lightgbm": _LIGHTGBM, "catboost": _CATBOOST}
#: For each library, its scikit-learn classes by the kind of target, and the class that takes any.
_CLASSES = {
    "xgboost": {"binary": "XGBClassifier", "classes": "XGBClassifier", "ranks": "XGBRanker", "": "XGBRegressor"},
    "lightgbm": {"binary": "LGBMClassifier", "classes": "LGBMClassifier", "ranks": "LGBMRanker", "": "LGBMRegressor"},
    "catboost": {
        **dict.fromkeys(("binary", "classes", "several labels"), "CatBoostClassifier"),
        "ranks": "CatBoostRanker",
        "": "CatBoostRegressor",
    },
}
_NATIVE = {"xgboost": "Booster", "lightgbm": "Booster", "catboost": "CatBoost"}
_SHORT: dict[str, dict[str, Any]] = {
    "xgboost": {"n_estimators": _ROUNDS, "n_jobs": 1},
    "lightgbm": {"n_estimators": _ROUNDS, "n_jobs": 1, "verbose": -1, "min_child_samples": 5},
    "catboost": {"iterations": _ROUNDS, "thread_count": 1, "verbose": 0, "allow_writing_files": False},
}
_ALSO = {"xgboost": ("XGBRFRegressor", "XGBRFClassifier"), "lightgbm": (), "catboost": ()}


def _rows(library: str) -> Callable[[], Iterator[Row]]:
    def rows() -> Iterator[Row]:
        changes = {_shown(change): change for change in (_NONE, *_CHANGES[library])}
        for objective, kind in _TABLES[library].items():
            for within in (_NATIVE[library], _class_of(library, kind)):
                for change in changes:
                    for data in ("mixed",) if "categories" in change else sets.NAMES:
                        yield Row(library, objective, change, within, data)
        for name in {*_CLASSES[library].values(), *_ALSO[library]}:
            yield from _in_scikit(library, name)

    return rows


def _in_scikit(library: str, name: str) -> Iterator[Row]:
    """Yield the library's estimator inside scikit-learn's, where the flavor is sklearn."""
    kind = getattr(importlib.import_module(library), name)
    for within, (suits, _) in WITHIN.items():
        for method in ("predict", "predict_proba") if suits(kind) and "Ranker" not in name else ():
            if method == "predict" or name.endswith("Classifier"):
                yield Row(library, name, "defaults", within, "real", method)


def _class_of(library: str, kind: str) -> str:
    names = _CLASSES[library]
    return names.get(kind, names[""])


def _shown(change: dict[str, Any]) -> str:
    return ",".join(f"{key}={shown(value)}" for key, value in change.items()) or "defaults"


def _change(library: str, text: str) -> dict[str, Any]:
    return next(dict(change) for change in (_NONE, *_CHANGES[library]) if _shown(change) == text)


# -- training -------------------------------------------------------------------------------------


def _train(row: Row, seed: int) -> Trained:
    try:
        return _in_a_pipeline(row, seed) if row.subject not in _TABLES[row.family] else _boosted(row, seed)
    except CannotTrain:
        raise
    # Not every objective has every booster, and not every library every objective.
    except Exception as error:
        raise CannotTrain(f"{type(error).__name__}: {error}".splitlines()[0]) from error


@lru_cache(maxsize=1)
def _fitted_in_a_pipeline(library: str, name: str, within: str, data: str, seed: int) -> Any:
    made = sets.made(data, seed)
    kind = getattr(importlib.import_module(library), name)
    target = made.labels if name.endswith("Classifier") else np.abs(made.numbers) + 0.5
    if within.startswith("MultiOutput"):
        target = np.column_stack([target, target[::-1]])
    return WITHIN[within][1](kind(**_SHORT[library])).fit(made.frame, target), made


def _in_a_pipeline(row: Row, seed: int) -> Trained:
    estimator, made = _fitted_in_a_pipeline(row.family, row.subject, row.within, row.data, seed)
    if not hasattr(estimator, row.method):
        raise CannotTrain(f"{type(estimator).__name__} has no {row.method}")
    return Trained(
        "sklearn",
        lambda path, method: save_sklearn(path, estimator, made.frame, method),
        sets.questions(made.frame, made.random),
    )


def _boosted(row: Row, seed: int) -> Trained:
    change = _change(row.family, row.change)
    categories = change.pop("categories", False)
    made = sets.made(row.data, seed)
    frame = _columns(made, with_text=categories)
    learned = frame if row.family == "catboost" or not categories else _as_categories(frame)
    kind = _TABLES[row.family][row.subject]
    model = _TRAINERS[row.family](row, learned, _target(kind, made), {**change, **_for_text(row.family, categories)})

    def own(rows: Any) -> Any:
        taken = _as_categories(rows)
        return model.predict(_matrix(taken) if row.within == "Booster" and row.family == "xgboost" else taken)

    def save(path: Path, method: str) -> None:
        from mlflow.models import infer_signature

        importlib.import_module(f"mlflow.{row.family}").save_model(
            model, str(path), signature=infer_signature(frame), input_example=frame[:3], pip_requirements=[]
        )

    questions: tuple[Question, ...] = sets.questions(frame, made.random)
    return Trained(row.family, save, questions, own if categories and row.family != "catboost" else None)


def _columns(made: Data, *, with_text: bool) -> Any:
    texts = [name for name in sets.TEXTS if name in made.frame.columns]
    return made.frame if with_text else made.frame.drop(columns=texts)


def _as_categories(frame: Any) -> Any:
    return frame.astype(dict.fromkeys(sets.TEXTS, "category"))


def _for_text(library: str, categories: bool) -> dict[str, Any]:  # noqa: FBT001
    if not categories or library == "lightgbm":
        return {}
    return {"cat_features": list(sets.TEXTS)} if library == "catboost" else {"enable_categorical": True}


def _target(kind: str, made: Data) -> Any:
    codes = np.unique(made.labels, return_inverse=True)[1]
    targets: dict[str, Callable[[], Any]] = {
        "binary": lambda: (codes > 0).astype(int),
        "bounds": lambda: np.abs(made.numbers) + 0.5,
        "classes": lambda: np.digitize(made.numbers, np.quantile(made.numbers, [0.3, 0.6])),
        "counts": lambda: made.counts,
        "numbers": lambda: made.numbers,
        "positive": lambda: np.abs(made.numbers) + 0.5,
        "ranks": lambda: np.digitize(made.numbers, np.quantile(made.numbers, [0.3, 0.6])),
        "several": lambda: np.column_stack([made.numbers, -made.numbers[::-1]]),
        "several labels": lambda: np.column_stack([codes > 0, made.numbers > 1]).astype(int),
    }
    return targets[kind]()


_GROUPS = np.repeat(range(sets.TRAINING // 10), 10)


def _matrix(frame: Any) -> Any:
    import xgboost

    return xgboost.DMatrix(frame, enable_categorical=True)


def _xgboost(row: Row, frame: Any, target: Any, change: dict[str, Any]) -> Any:
    import xgboost

    kind = _XGBOOST[row.subject]
    if row.subject == "reg:quantileerror":
        change["quantile_alpha"] = 0.3
    if row.subject == "reg:expectileerror":
        change["expectile_alpha"] = 0.3
    if row.within != "Booster":
        model = getattr(xgboost, row.within)(objective=row.subject, **_SHORT["xgboost"], **change)
        return model.fit(frame, target, **({"qid": _GROUPS} if kind == "ranks" else {}))
    missing = change.pop("missing", np.nan)
    matrix = xgboost.DMatrix(frame, target, missing=missing, enable_categorical=True)
    if kind == "ranks":
        matrix.set_info(qid=_GROUPS)
    if kind == "bounds":
        matrix.set_info(label_lower_bound=target, label_upper_bound=target + 1)
    classes = {"num_class": 3} if kind == "classes" else {}
    return xgboost.train({"objective": row.subject, "nthread": 1, **classes, **change}, matrix, _ROUNDS)


def _lightgbm(row: Row, frame: Any, target: Any, change: dict[str, Any]) -> Any:
    import lightgbm

    kind = _LIGHTGBM[row.subject]
    groups = {"group": [10] * (sets.TRAINING // 10)} if kind == "ranks" else {}
    if row.within != "Booster":
        model = getattr(lightgbm, row.within)(objective=row.subject, **_SHORT["lightgbm"], **change)
        return model.fit(frame, target, **groups)
    settings = {key: value for key, value in _SHORT["lightgbm"].items() if key != "n_estimators"}
    classes = {"num_class": 3} if kind == "classes" else {}
    settings |= {"objective": row.subject, **classes, **change}
    return lightgbm.train(settings, lightgbm.Dataset(frame, target, **groups), _ROUNDS)


def _catboost(row: Row, frame: Any, target: Any, change: dict[str, Any]) -> Any:
    import catboost

    settings = {"loss_function": row.subject, **_SHORT["catboost"], **change}
    made = catboost.CatBoost(settings) if row.within == "CatBoost" else getattr(catboost, row.within)(**settings)
    grouped = {"group_id": _GROUPS} if _CATBOOST[row.subject] == "ranks" else {}
    if row.within == "CatBoost":
        return made.fit(catboost.Pool(frame, target, cat_features=change.get("cat_features"), **grouped))
    return made.fit(frame, target, **grouped)


_TRAINERS: dict[str, Callable[[Row, Any, Any, dict[str, Any]], Any]] = {
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
}

FAMILIES = tuple(Family(library, _rows(library), _train) for library in _TRAINERS)
