"""Support vector machines answer in float64, on rows at their bounds too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM

from support.local_runs import deploy, save_sklearn

KERNELS = ["rbf", "linear", "poly", "sigmoid"]
CLASSIFIERS: dict[str, Callable[..., Any]] = {
    "SVC": SVC,
    "NuSVC": lambda **options: NuSVC(nu=0.3, **options),
    "SVC without ties": lambda **options: SVC(break_ties=True, **options),
    "one against one": lambda **options: SVC(decision_function_shape="ovo", **options),
    "one against the rest": lambda **options: OneVsRestClassifier(SVC(**options)),
}
REGRESSORS: dict[str, Callable[..., Any]] = {"SVR": SVR, "NuSVR": NuSVR, "one class": OneClassSVM}


def rows(count: int) -> pd.DataFrame:
    """Rows of few whole numbers: kernels are large and equal, so float32 is rarely enough."""
    return pd.DataFrame(np.random.default_rng(count).integers(0, 5, (count, 4)).astype(float), columns=list("abcd"))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_labels(kind: str, classes: int, kernel: str, tmp_path: Path) -> None:
    frame = rows(160)
    labels = np.array(list("pqrs"))[(frame.a + frame.b).rank(pct=True).mul(classes - 1e-9).astype(int)]
    estimator = CLASSIFIERS[kind](kernel=kernel).fit(frame, labels)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc_exactly(frame)
    deployed.assert_equals_pyfunc_exactly(rows(2_000) + 1e-7)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", REGRESSORS)
def test_numbers(kind: str, kernel: str, tmp_path: Path) -> None:
    frame = rows(160)
    estimator = REGRESSORS[kind](kernel=kernel).fit(frame, frame.a * 2 + frame.b)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc(frame)
    deployed.assert_equals_pyfunc(rows(2_000) + 0.01)


def test_distances_far_from_zero_are_exact(tmp_path: Path) -> None:
    """Differences of squares alone would lose all digits."""
    frame = rows(160) + 1e6
    estimator = SVR(C=10).fit(frame, frame.a - frame.b)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc(rows(500) + 1e6 + 0.3, within=1e-9)


@pytest.mark.parametrize("kind", [SVR, NuSVR, OneClassSVM])
def test_a_narrow_kernel_keeps_the_digits_of_small_distances(kind: Any, tmp_path: Path) -> None:
    """Rows of very different sizes, and a kernel that sees only close ones. One column at a time loses nothing."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame({"a": random.normal(0, 1, 160), "b": random.normal(30_000, 30_000, 160)})
    estimator = kind(gamma=0.5).fit(frame, frame.a)
    close = frame.assign(b=np.nextafter(frame.b, np.inf) + random.normal(0, 1, 160))

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame, pyfunc_predict_fn="predict"))

    deployed.assert_equals_pyfunc(close)
    deployed.assert_equals_pyfunc(frame.assign(a=1e300))
    assert deployed.deployable.notes == ()
