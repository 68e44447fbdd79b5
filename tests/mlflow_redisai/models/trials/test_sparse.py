"""A sparse matrix is accepted only by models that read its zeros as zeros. XGBoost reads them as gaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from redisai_engine.codec.errors import InputMismatch
from support.boosted_models import save_boosted
from support.local_runs import Deployed, deploy, save_sklearn

ROWS = np.random.default_rng(3).normal(size=(300, 4))
ROWS[ROWS < -0.6] = 0
# Gaps and zeros mean the opposite of each other.
GAPS = np.where(np.random.default_rng(4).random(ROWS.shape) < 0.3, np.nan, ROWS)
TARGET = np.where(np.isnan(GAPS), 2.0, -GAPS).sum(axis=1)
BOOSTED = xgboost.XGBRegressor(n_estimators=10, max_depth=3, n_jobs=1).fit(GAPS, TARGET)


def deployed_of(model: Any, folder: Path) -> Deployed:
    if isinstance(model, xgboost.XGBModel):
        return deploy(save_boosted(folder / "m", "xgboost", model, ROWS))
    return deploy(save_sklearn(folder / "m", model, ROWS))


@pytest.mark.parametrize("model", [BOOSTED, make_pipeline(BOOSTED)], ids=["xgboost", "sklearn"])
def test_it_is_refused_where_its_zeros_are_gaps(model: Any, tmp_path: Path) -> None:
    deployed = deployed_of(model, tmp_path)

    assert not np.allclose(deployed.expected(csr_matrix(ROWS)), deployed.expected(ROWS))
    with pytest.raises(InputMismatch, match=r"pass matrix\.toarray\(\) for its zeros to be read as zeros"):
        deployed.predict(csr_matrix(ROWS))
    deployed.assert_equals_pyfunc(csr_matrix(ROWS).toarray())


def test_it_is_refused_where_the_model_refuses_it(tmp_path: Path) -> None:
    """A scaler can't subtract the mean of a sparse column."""
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, TARGET > 0)
    deployed = deployed_of(model, tmp_path)

    with pytest.raises(ValueError, match="sparse"):
        deployed.expected(csr_matrix(ROWS))
    with pytest.raises(InputMismatch, match="doesn't answer a sparse matrix"):
        deployed.predict(csr_matrix(ROWS))


def test_it_is_accepted_where_its_zeros_are_zeros(tmp_path: Path) -> None:
    deployed = deployed_of(LogisticRegression().fit(ROWS, TARGET > 0), tmp_path)

    deployed.assert_equals_pyfunc_exactly(csr_matrix(ROWS))
