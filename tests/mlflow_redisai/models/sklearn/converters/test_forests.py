"""Forests decide ties as scikit-learn does: the sums over trees are the same to the last bit, on every server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from mlflow_redisai.models.choice import choose_flavor, convert
from mlflow_redisai.models.graph import runner
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.server.limits import ServerLimits
from support.local_runs import Deployed, save_sklearn

COLUMNS = list("abcde")

KINDS: dict[str, Callable[[], Any]] = {
    "3 trees": lambda: RandomForestClassifier(3, random_state=0, max_depth=4),
    "20 trees": lambda: RandomForestClassifier(20, random_state=0, max_depth=4),
    "20 whole trees": lambda: RandomForestClassifier(20, random_state=0),
    "60 trees": lambda: RandomForestClassifier(60, random_state=0, max_depth=4),
    "extra trees": lambda: ExtraTreesClassifier(20, random_state=0),
    "behind an imputer": lambda: make_pipeline(SimpleImputer(), RandomForestClassifier(20, random_state=0)),
    "a tree": lambda: DecisionTreeClassifier(max_depth=4, random_state=0),
    "bagging": lambda: BaggingClassifier(n_estimators=10, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=20, random_state=0),
    "boosting from zero": lambda: GradientBoostingClassifier(n_estimators=20, init="zero", random_state=0),
}


def tied(rows: int) -> pd.DataFrame:
    """Rows of few whole numbers: many of them are at thresholds, and forests of random labels are often undecided."""
    return pd.DataFrame(np.random.default_rng(rows).integers(0, 6, (rows, 5)).astype(float), columns=COLUMNS)


def labelled() -> tuple[pd.DataFrame, Any]:
    return tied(600), np.where(np.random.default_rng(1).random(600) < 0.5, "no", "yes")


@pytest.mark.parametrize("kind", KINDS)
def test_labels_at_ties_are_scikit_learns(kind: str, tmp_path: Path) -> None:
    frame, text = labelled()
    estimator = KINDS[kind]().fit(frame, text)

    deployed = within(save_sklearn(tmp_path / "model", estimator, frame), ServerLimits())

    deployed.assert_equals_pyfunc_exactly(tied(20_000))


@pytest.mark.slow
@pytest.mark.parametrize("ml_opset", [2, 3])
def test_many_trees_on_any_server(ml_opset: int, tmp_path: Path) -> None:
    frame, text = labelled()
    estimator = RandomForestClassifier(250, max_depth=3, random_state=0).fit(frame, text)
    rows = tied(20_000)
    undecided = np.abs(estimator.predict_proba(rows)[:, 0] - 0.5) < 1e-3

    deployed = within(save_sklearn(tmp_path / "model", estimator, frame), ServerLimits(ml_opset=ml_opset))

    assert undecided.any()
    deployed.assert_equals_pyfunc_exactly(rows)


def test_probabilities_are_scikit_learns_to_the_last_bit(tmp_path: Path) -> None:
    frame, text = labelled()
    estimator = RandomForestClassifier(70, max_depth=4, random_state=0).fit(frame, text)

    deployed = within(
        save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn="predict_proba"), ServerLimits()
    )

    deployed.assert_equals_pyfunc_exactly(tied(5_000))


def test_numbers_of_a_forest_are_scikit_learns_to_the_last_bit(tmp_path: Path) -> None:
    frame, _ = labelled()
    targets = np.random.default_rng(1).normal(size=(600, 2))
    estimator = RandomForestRegressor(40, random_state=0).fit(frame, targets)

    deployed = within(save_sklearn(tmp_path / "model", estimator, frame), ServerLimits())

    deployed.assert_equals_pyfunc_exactly(tied(5_000))


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_boosting_adds_up_in_float64(loss: str, tmp_path: Path) -> None:
    frame, _ = labelled()
    target = np.random.default_rng(1).normal(size=600) * 1e6
    estimator = GradientBoostingRegressor(loss=loss, n_estimators=30, random_state=0).fit(frame, target)

    deployed = within(save_sklearn(tmp_path / "model", estimator, frame), ServerLimits())

    deployed.assert_equals_pyfunc(tied(2_000), within=1e-14)


@pytest.mark.parametrize("function", ["predict", "predict_proba"])
def test_several_targets_of_text(function: str, tmp_path: Path) -> None:
    frame, text = labelled()
    colours = np.random.default_rng(2).choice(["red", "green", "blue"], 600)
    estimator = RandomForestClassifier(6, random_state=0).fit(frame, np.column_stack([text, colours]).astype(object))

    deployed = within(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn=function), ServerLimits())

    deployed.assert_equals_pyfunc(tied(2_000))


@pytest.mark.parametrize("function", ["predict", "predict_proba"])
def test_a_calibrated_forest_that_learned_from_gaps(function: str, tmp_path: Path) -> None:
    frame, text = labelled()
    random = np.random.default_rng(3)
    estimator = CalibratedClassifierCV(RandomForestClassifier(5, random_state=0), cv=3)
    estimator.fit(frame.mask(random.random(frame.shape) < 0.15), text)

    deployed = within(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn=function), ServerLimits())

    rows = tied(2_000)
    deployed.assert_equals_pyfunc(rows)
    deployed.assert_equals_pyfunc(rows.mask(random.random(rows.shape) < 0.15))


@pytest.mark.parametrize("options", [{}, {"contamination": 0.1}, {"max_features": 0.5}], ids=str)
def test_an_isolation_forest(options: dict[str, Any], tmp_path: Path) -> None:
    """With `contamination`, the bound of normality is a training row's own score, so that row is a tie."""
    frame = pd.DataFrame(np.random.default_rng(4).normal(size=(300, 4)), columns=list("abcd"))
    estimator = IsolationForest(n_estimators=20, random_state=0, **options).fit(frame)

    path = save_sklearn(tmp_path / "model", estimator, frame)

    deployed = within(path, ServerLimits())
    scored = within(path, ServerLimits(), outputs=("scores", "score_samples"))

    for rows in (frame, frame * 4):
        deployed.assert_equals_pyfunc_exactly(rows)
        assert np.allclose(scored.predict(rows)["scores"].ravel(), estimator.decision_function(rows), rtol=1e-14)
        assert np.allclose(scored.predict(rows)["score_samples"].ravel(), estimator.score_samples(rows), rtol=1e-14)


def within(path: Path, limits: ServerLimits, **options: Any) -> Deployed:
    """Return the model, converted within the limits of one server."""
    model = open_model(str(path))
    deployable = convert(model, flavor=choose_flavor(model, None), limits=limits, **options)
    run = runner(deployable.blob, deployable.mapping.fetch, "the test's model")
    return Deployed(model, deployable, deployable.mapping, run)
