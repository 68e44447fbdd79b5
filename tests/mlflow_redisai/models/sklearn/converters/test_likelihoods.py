"""Probabilities and their logarithms stay exact where a class has almost no probability."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from support.local_runs import deploy, save_sklearn

FRAME = pd.DataFrame(np.random.default_rng(11).gamma(2, 3, (200, 3)), columns=["a", "b", "c"])
SCORE = (FRAME.a - FRAME.b).to_numpy()
LABEL = np.array(["low", "mid", "high"])[np.digitize(SCORE, [-2, 2])]
YES = SCORE > 1

KINDS: dict[str, Any] = {
    "Gaussian": GaussianNB(),
    "multinomial": MultinomialNB(),
    "complement": ComplementNB(norm=True),
    "Bernoulli": BernoulliNB(binarize=5.0),
    "quadratic": QuadraticDiscriminantAnalysis(reg_param=0.1),
    "quadratic by eigenvalues": QuadraticDiscriminantAnalysis(solver="eigen"),
    "linear": LinearDiscriminantAnalysis(),
}


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
@pytest.mark.parametrize("target", [LABEL, YES], ids=["three classes", "two classes"])
@pytest.mark.parametrize("name", KINDS)
def test_a_class_of_almost_no_probability(name: str, target: Any, method: str, tmp_path: Path) -> None:
    estimator = KINDS[name].fit(FRAME, target)
    # Far away, a probability is 1e-1000, of which only the logarithm can be told from zero.
    rows = pd.concat([FRAME, FRAME * 50], ignore_index=True)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, FRAME, pyfunc_predict_fn=method))

    deployed.assert_equals_pyfunc(rows)


def test_behind_a_step_and_for_each_target(tmp_path: Path) -> None:
    inner = MultiOutputClassifier(BernoulliNB(binarize=0.3))
    estimator = make_pipeline(MinMaxScaler(), inner).fit(FRAME, np.column_stack([LABEL, LABEL[::-1]]))

    deploy(save_sklearn(tmp_path / "model", estimator, FRAME)).assert_equals_pyfunc_exactly(FRAME)


def test_a_constant_column_that_a_class_never_has(tmp_path: Path) -> None:
    """Without smoothing, a likelihood is minus infinity."""
    frame = FRAME.assign(b=np.where(YES, 0.0, FRAME.b))
    estimator = MultinomialNB(alpha=1e-10).fit(frame, YES)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn="predict_log_proba"))

    deployed.assert_equals_pyfunc(frame)
