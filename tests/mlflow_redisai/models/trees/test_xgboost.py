"""XGBoost models answer as mlflow.pyfunc does, on rows that they weren't trained on, including gaps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_redisai.errors import NotConvertible
from redisai_engine.protocol import dtypes
from support.boosted_models import cancer, diabetes, digits, save_boosted, with_categories, with_gaps
from support.local_runs import deploy

xgboost = pytest.importorskip("xgboost", reason='not installed: pip install "mlflow-redisai[xgboost]"')

TREES = {"n_estimators": 8}

# Before 3.1, XGBoost stores no names of categories, and starts counts at e^78, from which its trees descend in float32.
SINCE_3_1 = tuple(int(number) for number in xgboost.__version__.split(".")[:2]) >= (3, 1)

REGRESSORS: dict[str, Callable[[], Any]] = {
    "trees": lambda: xgboost.XGBRegressor(n_estimators=50),
    "random forest": lambda: xgboost.XGBRFRegressor(**TREES),
    "trees dropped": lambda: xgboost.XGBRegressor(booster="dart", rate_drop=0.3, **TREES),
    "linear": lambda: xgboost.XGBRegressor(booster="gblinear", **TREES),
    "counts": lambda: xgboost.XGBRegressor(objective="count:poisson", **TREES),
    "gamma": lambda: xgboost.XGBRegressor(objective="reg:gamma", **TREES),
    "absolute error": lambda: xgboost.XGBRegressor(objective="reg:absoluteerror", **TREES),
    "two quantiles": lambda: xgboost.XGBRegressor(
        objective="reg:quantileerror", quantile_alpha=np.array([0.1, 0.9]), **TREES
    ),
}
OBJECTIVES = ["binary:logistic", "binary:logitraw", "binary:hinge", "multi:softprob", "multi:softmax", "survival:cox"]


@pytest.mark.parametrize("booster", ["gbtree", "gblinear"])
@pytest.mark.parametrize("classes", [2, 10])
def test_a_classifier_gives_labels(classes: int, booster: str, tmp_path: Path) -> None:
    frame, labels = cancer() if classes == 2 else digits()
    target = np.unique(labels, return_inverse=True)[1]
    model = xgboost.XGBClassifier(booster=booster, **TREES).fit(frame[::2], target[::2])

    deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, frame))

    deployed.assert_equals_pyfunc_exactly(frame)
    deployed.assert_equals_pyfunc_exactly(with_gaps(frame))
    assert deployed.predict(frame).dtype == deployed.expected(frame).dtype


@pytest.mark.slow
@pytest.mark.parametrize("kind", REGRESSORS)
def test_a_regressor_gives_numbers(kind: str, tmp_path: Path) -> None:
    frame, target = diabetes()
    model = REGRESSORS[kind]().fit(frame[::2], target[::2])

    deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, frame))

    for rows in (frame, with_gaps(frame)):
        deployed.assert_equals_pyfunc(rows, within=3e-6 if SINCE_3_1 else 3e-5)
    assert deployed.predict(frame).dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_native_booster_answers_as_its_objective_wants(objective: str, tmp_path: Path) -> None:
    """It answers with probabilities, scores, zeros and ones, a matrix, or class numbers as float32."""
    frame, labels = digits() if objective.startswith("multi") else cancer()
    target = np.unique(labels, return_inverse=True)[1]
    settings = {"objective": objective, **({"num_class": 10} if objective.startswith("multi") else {})}
    gaps = with_gaps(frame)
    model = xgboost.train(settings, xgboost.DMatrix(gaps[::2], target[::2]), 8)

    deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, frame))

    deployed.assert_equals_pyfunc(frame)
    deployed.assert_equals_pyfunc(gaps)
    assert deployed.predict(gaps).shape == deployed.expected(gaps).shape


def test_a_ranker(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = xgboost.XGBRanker(**TREES).fit(frame[::2], (target[::2] // 50).astype(int), qid=np.repeat(range(17), 13))

    deploy(save_boosted(tmp_path / "m", "xgboost", model, frame)).assert_equals_pyfunc(frame)


@pytest.mark.parametrize("strategy", ["one_output_per_tree", "multi_output_tree"])
def test_several_targets(strategy: str, tmp_path: Path) -> None:
    frame, target = diabetes()
    model = xgboost.XGBRegressor(multi_strategy=strategy, **TREES).fit(frame, np.column_stack([target, -2 * target]))

    deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, frame))

    deployed.assert_equals_pyfunc(frame)
    assert deployed.predict(frame).shape == (len(frame), 2)


def test_several_labels(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = xgboost.XGBClassifier(**TREES).fit(frame, np.column_stack([target > 100, target > 200]).astype(int))

    deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, frame))

    deployed.assert_equals_pyfunc_exactly(frame)


def test_an_early_stop_counts_for_scikit_learns_form_only(tmp_path: Path) -> None:
    """XGBoost itself uses all trees of a native Booster, but only the best rounds of an estimator."""
    frame, target = diabetes()
    model = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=3, learning_rate=0.5)
    model.fit(frame[::2], target[::2], eval_set=[(frame[1::2], target[1::2])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()

    for number, each in enumerate([model, model.get_booster()]):
        deploy(save_boosted(tmp_path / str(number), "xgboost", each, frame)).assert_equals_pyfunc(frame)


@pytest.mark.parametrize("numpy", ["float64", "float32", "int64"])
def test_arrays_keep_their_type(numpy: str, tmp_path: Path) -> None:
    frame, labels = cancer()
    rows = frame.to_numpy().astype(numpy)
    model = xgboost.XGBClassifier(**TREES).fit(rows[::2], (labels == "benign")[::2])

    deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, rows))

    deployed.assert_equals_pyfunc_exactly(rows)
    assert deployed.mapping.inputs[0].dtype is dtypes.by_numpy(numpy)


def test_numbers_at_a_trees_bound_go_the_same_way(tmp_path: Path) -> None:
    """Thresholds are values of training rows, rounded to float32. A float64 near one must take XGBoost's branch."""
    frame, labels = cancer()
    model = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(frame, labels == "benign"), 8)
    deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, frame))

    for moved in (frame * (1 + 1e-16), frame * (1 - 2e-8), np.nextafter(frame, np.inf), frame.astype("float32")):
        deployed.assert_equals_pyfunc(moved.astype("float64"))


class TestCategories:
    """XGBoost splits by sets of categories. A graph tests one category after another."""

    @pytest.mark.parametrize("kinds", [3, 12])
    def test_codes_are_numbers(self, kinds: int, tmp_path: Path) -> None:
        frame, target = diabetes()
        frame = with_gaps(frame.assign(bmi=np.arange(len(frame)) % kinds))
        model = xgboost.XGBRegressor(
            enable_categorical=True, feature_types=["q", "q", "c"] + ["q"] * 7, max_cat_to_onehot=4, **TREES
        ).fit(frame[::2], target[::2])

        deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, frame))

        deployed.assert_equals_pyfunc(frame)

    @pytest.mark.skipif(not SINCE_3_1, reason="XGBoost stores the names of categories from 3.1 on")
    @pytest.mark.parametrize("kinds", [3, 12])
    def test_text_is_looked_up(self, kinds: int, tmp_path: Path) -> None:
        """pyfunc refuses such rows, so the reference is the library itself."""
        frame, target = diabetes()
        frame = with_categories(frame, kinds)
        model = xgboost.XGBRegressor(enable_categorical=True, max_cat_to_onehot=4, **TREES)
        model.fit(frame[::2], target[::2])

        deployed = deploy(save_boosted(tmp_path / "m", "xgboost", model, frame))

        text = frame.astype({"bmi": str, "s1": str})
        np.testing.assert_allclose(deployed.predict(text), model.predict(frame), rtol=1e-5)


class TestRefused:
    def test_columns_in_another_order_are_told(self, tmp_path: Path) -> None:
        frame, target = diabetes()
        model = xgboost.XGBRegressor(**TREES).fit(frame, target)
        turned = frame[frame.columns[::-1]]

        with pytest.raises(NotConvertible, match=r"\(s6, .*\) are not those that XGBoost was trained on \(age, "):
            deploy(save_boosted(tmp_path / "m", "xgboost", model, turned, input_example=None))
