"""Imputers fill numbers in float64, whatever stands for a gap, and drop the columns that scikit-learn drops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from support.local_runs import deploy, save_sklearn

STRATEGIES: dict[str, dict[str, Any]] = {
    "mean": {},
    "median": {"strategy": "median"},
    "most frequent": {"strategy": "most_frequent"},
    "constant": {"strategy": "constant", "fill_value": 7},
}


def rows(mark: float, dtype: str) -> pd.DataFrame:
    """Numbers that float32 can't tell apart, and one column without any number."""
    random = np.random.default_rng(5)
    frame = pd.DataFrame({name: random.integers(2**25, 2**25 + 9, 80).astype(dtype) for name in "abc"})
    frame = frame.mask(random.random(frame.shape) < 0.2, mark).assign(c=mark)
    return frame.astype(dtype)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("mark", "dtype"), [(np.nan, "float64"), (-1.0, "float64"), (0.0, "float32"), (-1, "int64")])
@pytest.mark.filterwarnings("ignore:Skipping features without")
def test_gaps_are_filled_as_in_scikit_learn(mark: float, dtype: str, strategy: str, keep: Any, tmp_path: Path) -> None:
    frame = rows(mark, dtype)
    imputer = SimpleImputer(missing_values=mark, keep_empty_features=keep, **STRATEGIES[strategy])
    imputer.fit(frame)

    deployed = deploy(save_sklearn(tmp_path / "model", imputer, frame))

    assert deployed.predict(frame).tolist() == imputer.transform(frame).tolist()


def test_a_step_after_it_reads_every_digit(tmp_path: Path) -> None:
    frame = rows(np.nan, "float64")[["a", "b"]]
    pipeline = make_pipeline(SimpleImputer(), StandardScaler()).fit(frame)

    deployed = deploy(save_sklearn(tmp_path / "model", pipeline, frame))

    np.testing.assert_allclose(deployed.predict(frame), pipeline.transform(frame), rtol=1e-12, atol=1e-12)
