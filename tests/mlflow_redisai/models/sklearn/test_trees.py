"""In the graph, every number and every gap takes the same path through a tree as in scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.ensemble import BaggingClassifier, ExtraTreesClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlflow_redisai.models.sklearn.trees import with_float32_thresholds
from support.boosted_models import cancer, diabetes
from support.local_runs import deploy, save_sklearn

KINDS: dict[str, Callable[[], Any]] = {
    "tree": lambda: DecisionTreeClassifier(random_state=1),
    "bagging": lambda: BaggingClassifier(random_state=1),
    "forest": lambda: RandomForestClassifier(30, random_state=1),
    "extra trees": lambda: ExtraTreesClassifier(30, random_state=1),
}
# The first versions of scikit-learn in which these accept gaps.
GAPS_SINCE = {"forest": (1, 4), "extra trees": (1, 6)}
SKLEARN = tuple(int(number) for number in sklearn.__version__.split(".")[:2])


@pytest.mark.slow
@pytest.mark.parametrize("learned", ["from gaps", "without gaps"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if GAPS_SINCE.get(kind, (0, 0)) <= SKLEARN])
def test_trees_go_the_same_way_for_gaps(kind: str, learned: str, tmp_path: Path) -> None:
    """Each node of scikit-learn's trees has its own branch for gaps, even if there were none in training."""
    frame, labels = cancer()
    gaps = frame.mask(np.random.default_rng(1).random(frame.shape) < 0.3)
    estimator = KINDS[kind]().fit(gaps if learned == "from gaps" else frame, labels)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn="predict_proba"))

    deployed.assert_equals_pyfunc(gaps)
    deployed.assert_equals_pyfunc(frame)


def test_numbers_at_a_trees_bound_go_the_same_way(tmp_path: Path) -> None:
    """Thresholds are float64 and lie between two rows. Numbers are rounded to float32 before the comparison."""
    frame, target = diabetes()
    estimator = DecisionTreeRegressor(random_state=1).fit(frame, target)
    bounds = np.unique(estimator.tree_.threshold.astype(np.float32)).astype(np.float64)
    rows = pd.DataFrame({name: np.resize(np.roll(bounds, index), 400) for index, name in enumerate(frame)})

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    for moved in (rows, rows * (1 + 1e-7), rows * (1 - 1e-7)):
        deployed.assert_equals_pyfunc(moved, within=1e-6)


def test_the_estimator_itself_is_left_as_it_is() -> None:
    frame, target = diabetes()
    estimator = DecisionTreeRegressor(random_state=1).fit(frame, target)
    before = estimator.tree_.threshold.copy()

    copied = with_float32_thresholds(estimator)

    assert (estimator.tree_.threshold == before).all()
    assert (copied.tree_.threshold == copied.tree_.threshold.astype(np.float32)).all()
    assert (copied.tree_.threshold <= before).all()
