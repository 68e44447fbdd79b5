"""Some rows of the census, of several families: the deployment answers as the model does, and a long row is ended."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from census.families import all_rows
from census.rows import Row
from census.running import run

# Rows that answer alike. docs/census.md says which don't yet; `scripts/census` runs others.
NAMES = (
    "sklearn/BernoulliNB/defaults/alone/ties/predict",
    "sklearn/DecisionTreeClassifier/max_leaf_nodes=2/alone/real/predict",
    "sklearn/LinearRegression/defaults/alone/real/predict",
    "sklearn/LogisticRegression/defaults/alone/mixed/predict_proba",
    "sklearn/NuSVR/kernel='poly'/alone/real/predict",
    "sklearn/RandomForestClassifier/min_samples_leaf=2/alone/real/predict_log_proba",
    "catboost/RMSE/defaults/CatBoost/ties/predict",
)

_MISSING = [name for name in ("xgboost", "lightgbm", "catboost") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}"),
]


def test_rows_of_several_families_are_equal() -> None:
    rows = all_rows()

    found = list(run([rows[name] for name in NAMES], 1))

    assert {each.row.name: each.verdict.kind for each in found} == dict.fromkeys(NAMES, "equal")


def test_a_row_that_computes_for_too_long_is_ended() -> None:
    """The same process can't judge it: the time that a library computes without a break can only be ended outside."""
    [found] = run([Row("sklearn", "LogisticRegression")], 1, limit=0.01)

    assert found.verdict.reason.endswith("didn't end within 0.01 s")
