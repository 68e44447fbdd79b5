"""Gaussian processes of two and of more classes, with each kernel, also far from all training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    Exponentiation,
    ExpSineSquared,
    Matern,
    RationalQuadratic,
    WhiteKernel,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlflow_redisai.errors import NotConvertible
from support.local_runs import Deployed, deploy, save_sklearn

FRAME = pd.DataFrame(np.random.default_rng(13).normal(size=(80, 2)), columns=["a", "b"])
SCORE = (FRAME.a - FRAME.b).to_numpy()
LABEL = np.array(["low", "mid", "high"])[np.digitize(SCORE, [-0.7, 0.7])]
YES = SCORE > 0
ROWS = pd.concat([FRAME, FRAME * 1.5, FRAME * 1000], ignore_index=True)

KERNELS: dict[str, Any] = {
    "default": None,
    "scaled by column": ConstantKernel(2.0) * RBF([0.5, 2.0]),
    "with noise": RBF(1.5) + WhiteKernel(0.1),
    "rough": Matern(nu=0.5),
    "once": Matern(nu=1.5),
    "twice": Matern(nu=2.5),
    "smooth": Matern(nu=np.inf),
    "of many scales": RationalQuadratic(),
    "a product": DotProduct(),
    "a power": Exponentiation(RBF(), 2),
}


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("name", KERNELS)
def test_two_classes(name: str, method: str, tmp_path: Path) -> None:
    estimator = GaussianProcessClassifier(KERNELS[name], optimizer=None).fit(FRAME, YES)

    _deployed(tmp_path, estimator, method).assert_equals_pyfunc(ROWS)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_process_for_each_class(method: str, tmp_path: Path) -> None:
    estimator = make_pipeline(StandardScaler(), GaussianProcessClassifier()).fit(FRAME, LABEL)

    _deployed(tmp_path, estimator, method).assert_equals_pyfunc(ROWS)


def test_a_process_for_each_pair_of_classes(tmp_path: Path) -> None:
    estimator = GaussianProcessClassifier(multi_class="one_vs_one").fit(FRAME, LABEL)

    _deployed(tmp_path, estimator, "predict").assert_equals_pyfunc_exactly(ROWS)


def test_inside_another_estimator(tmp_path: Path) -> None:
    estimator = OneVsRestClassifier(GaussianProcessClassifier(optimizer=None)).fit(FRAME, LABEL)

    _deployed(tmp_path, estimator, "predict_proba").assert_equals_pyfunc(ROWS)


@pytest.mark.parametrize(
    ("kernel", "named"), [(ExpSineSquared() + WhiteKernel(), "ExpSineSquared"), (Matern(nu=0.7), "nu=0.7")]
)
def test_a_kernel_without_conversion_is_named(kernel: Any, named: str, tmp_path: Path) -> None:
    estimator = GaussianProcessClassifier(kernel, optimizer=None).fit(FRAME, YES)

    with pytest.raises(NotConvertible, match=named):
        _deployed(tmp_path, estimator, "predict")


def _deployed(path: Path, estimator: Any, method: str) -> Deployed:
    return deploy(save_sklearn(path / "model", estimator, FRAME, pyfunc_predict_fn=method))
