"""LightGBM models answer as mlflow.pyfunc does, on rows that they weren't trained on, including gaps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai.errors import NotConvertible
from support.boosted_models import cancer, diabetes, digits, save_boosted, with_categories, with_gaps
from support.local_runs import deploy

lightgbm = pytest.importorskip("lightgbm", reason='not installed: pip install "mlflow-redisai[lightgbm]"')

TREES: dict[str, Any] = {"n_estimators": 8, "verbose": -1}

REGRESSORS: dict[str, Callable[[], Any]] = {
    "trees": lambda: lightgbm.LGBMRegressor(n_estimators=60, verbose=-1),
    "random forest": lambda: lightgbm.LGBMRegressor(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, **TREES),
    "trees dropped": lambda: lightgbm.LGBMRegressor(boosting_type="dart", **TREES),
    "counts": lambda: lightgbm.LGBMRegressor(objective="poisson", **TREES),
    "quantile": lambda: lightgbm.LGBMRegressor(objective="quantile", **TREES),
    "of the root": lambda: lightgbm.LGBMRegressor(reg_sqrt=True, **TREES),
    "the user's own objective": lambda: lightgbm.LGBMRegressor(objective=squares, **TREES),
}
OBJECTIVES = ["binary", "cross_entropy", "cross_entropy_lambda", "multiclass", "multiclassova"]


def squares(target: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return predicted - target, np.ones_like(target)


@pytest.mark.parametrize("labels", ["text", "truth values", "ten numbers"])
def test_a_classifier_gives_labels(labels: str, tmp_path: Path) -> None:
    frame, target = digits() if labels == "ten numbers" else cancer()
    target = target == "benign" if labels == "truth values" else target
    model = lightgbm.LGBMClassifier(**TREES).fit(frame[::2], target[::2])

    deployed = deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame))

    deployed.assert_equals_pyfunc_exactly(frame)
    deployed.assert_equals_pyfunc_exactly(with_gaps(frame))
    assert deployed.predict(frame).dtype == deployed.expected(frame).dtype


@pytest.mark.parametrize("seed", range(3))
def test_without_signature_columns_go_by_position_as_in_lightgbm(seed: int, tmp_path: Path) -> None:
    """LightGBM looks at no names, and nothing sorts the columns of a model without a signature."""
    frame, target = diabetes()
    model = lightgbm.LGBMRegressor(**TREES).fit(frame, target)

    deployed = deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame, signature=False, input_example=None))

    shuffled = frame.sample(frac=1, axis="columns", random_state=seed)
    deployed.assert_equals_pyfunc(shuffled, within=1e-6)
    deployed.assert_equals_pyfunc(shuffled.add_prefix("another "), within=1e-6)
    assert not np.allclose(deployed.predict(shuffled), deployed.predict(frame))


@pytest.mark.slow
@pytest.mark.parametrize("kind", REGRESSORS)
def test_a_regressor_gives_numbers(kind: str, tmp_path: Path) -> None:
    frame, target = diabetes()
    model = REGRESSORS[kind]().fit(frame[::2], target[::2])

    deployed = deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame))

    for rows in (frame, with_gaps(frame)):
        deployed.assert_equals_pyfunc(rows, within=1e-6)
    assert deployed.predict(frame).dtype == np.float64


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_native_booster_answers_as_its_objective_wants(objective: str, tmp_path: Path) -> None:
    frame, labels = digits() if objective.startswith("multi") else cancer()
    target = np.unique(labels, return_inverse=True)[1]
    settings = {"objective": objective, "verbose": -1, "sigmoid": 2.0, "num_threads": 1}
    settings |= {"num_class": 10} if objective.startswith("multi") else {}
    model = lightgbm.train(settings, lightgbm.Dataset(with_gaps(frame)[::2], target[::2]), 8)

    deployed = deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame))

    deployed.assert_equals_pyfunc(frame)
    deployed.assert_equals_pyfunc(with_gaps(frame))


def test_a_ranker(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = lightgbm.LGBMRanker(**TREES).fit(frame[::2], (target[::2] // 50).astype(int), group=[13] * 17)

    deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame)).assert_equals_pyfunc(frame)


def test_the_best_round_counts(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = lightgbm.LGBMRegressor(n_estimators=200, verbose=-1)
    stop = lightgbm.early_stopping(3, verbose=False)
    with warnings.catch_warnings():
        # LightGBM 4.7 warns about eval_set, for which earlier versions have no replacement.
        warnings.simplefilter("ignore")
        model.fit(frame[::2], target[::2], eval_set=[(frame[1::2], target[1::2])], callbacks=[stop])
    assert model.best_iteration_ < 200

    for number, each in enumerate([model, model.booster_]):
        deploy(save_boosted(tmp_path / str(number), "lightgbm", each, frame)).assert_equals_pyfunc(frame)


@pytest.mark.parametrize("trained", ["with gaps", "without gaps", "zero is a gap", "nothing is a gap"])
def test_gaps_go_where_the_node_says(trained: str, tmp_path: Path) -> None:
    """Each node has one of three rules for gaps. A node without gaps reads NaN as zero."""
    frame, target = diabetes()
    learned = {"with gaps": with_gaps(frame), "zero is a gap": with_gaps(frame, 0)}.get(trained, frame)
    settings = {"zero_as_missing": trained == "zero is a gap", "use_missing": trained != "nothing is a gap"}
    model = lightgbm.LGBMRegressor(**settings, **TREES).fit(learned[::2], target[::2])

    deployed = deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame))

    for rows in (frame, with_gaps(frame), with_gaps(frame, 0), with_gaps(frame, 1e-36)):
        deployed.assert_equals_pyfunc(rows)


@pytest.mark.parametrize("numpy", ["float64", "float32", "int64"])
def test_arrays(numpy: str, tmp_path: Path) -> None:
    frame, labels = cancer()
    rows = frame.to_numpy().astype(numpy)
    model = lightgbm.LGBMClassifier(**TREES).fit(rows[::2], labels[::2])

    deploy(save_boosted(tmp_path / "m", "lightgbm", model, rows)).assert_equals_pyfunc_exactly(rows)


def test_numbers_at_a_trees_bound_go_the_same_way(tmp_path: Path) -> None:
    """Thresholds are float64. A float32 graph would round them."""
    frame, target = diabetes()
    model = lightgbm.LGBMRegressor(n_estimators=60, verbose=-1).fit(frame, target)
    bounds = np.unique(model.booster_.trees_to_dataframe()["threshold"].dropna())
    rows = pd.DataFrame({name: np.resize(bounds, 400) for name in frame}, dtype="float64")
    deployed = deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame))

    for moved in (rows, np.nextafter(rows, np.inf), np.nextafter(rows, -np.inf)):
        deployed.assert_equals_pyfunc(moved)


@pytest.mark.parametrize("settings", [{"max_bin": 3}, {"max_bin": 3, "zero_as_missing": True}, {"use_missing": False}])
def test_a_node_that_only_tells_gaps_from_numbers_takes_every_number(settings: dict[str, Any], tmp_path: Path) -> None:
    """Its threshold is infinite, which LightGBM's dump can't say."""
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"a": random.normal(size=200), "b": random.normal(size=200)})
    frame["a"] = frame["a"].where(random.random(200) > 0.3)
    model = lightgbm.LGBMRegressor(**settings, **TREES).fit(frame, frame["a"].isna() + frame["b"] / 9)
    huge = pd.DataFrame({"a": [1e300, 1.1e300, np.inf, -np.inf, np.nan, -1e300, -2e300], "b": 0.5})

    deployed = deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame))

    deployed.assert_equals_pyfunc(huge)


class TestCategories:
    @pytest.mark.parametrize("kinds", [3, 40])
    def test_codes_are_numbers(self, kinds: int, tmp_path: Path) -> None:
        frame, target = diabetes()
        frame = with_gaps(frame.assign(bmi=np.arange(len(frame)) % kinds))
        model = lightgbm.LGBMRegressor(min_data_per_group=2, cat_smooth=1, **TREES)
        model.fit(frame[::2], target[::2], categorical_feature=["bmi"])

        deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame)).assert_equals_pyfunc(frame)

    @pytest.mark.parametrize("kinds", [3, 40])
    def test_text_is_looked_up(self, kinds: int, tmp_path: Path) -> None:
        """pyfunc refuses such rows, so the reference is the library itself."""
        frame, target = diabetes()
        frame = with_categories(frame, kinds)
        model = lightgbm.LGBMRegressor(min_data_per_group=2, cat_smooth=1, **TREES).fit(frame[::2], target[::2])

        deployed = deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame))

        text = frame.astype({"bmi": str, "s1": str})
        np.testing.assert_allclose(deployed.predict(text), model.predict(frame), rtol=1e-6)

    def test_categories_that_are_numbers_are_told(self, tmp_path: Path) -> None:
        frame, target = diabetes()
        frame = frame.assign(bmi=pd.Categorical(np.arange(len(frame)) % 3 + 5))
        model = lightgbm.LGBMRegressor(**TREES).fit(frame, target)

        with pytest.raises(NotConvertible, match="doesn't record which column has the categories 5, 6, 7; use text"):
            deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame.astype({"bmi": int}), input_example=None))


def test_linear_trees_are_refused_by_name(tmp_path: Path) -> None:
    frame, target = diabetes()
    model = lightgbm.LGBMRegressor(linear_tree=True, **TREES).fit(frame, target)

    with pytest.raises(NotConvertible, match=r"linear trees \(linear_tree=True\) can't be expressed in ONNX"):
        deploy(save_boosted(tmp_path / "m", "lightgbm", model, frame))
