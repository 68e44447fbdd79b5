"""Functions of numpy as a step and on the target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.sklearn.converters.functions import FUNCTIONS
from support.local_runs import deploy, save_sklearn

# Next to zero they become infinite, which the next step refuses. 1 / x does so at zero only, and no contract says that.
POLES = ("numpy.log", "numpy.log2", "numpy.log10")
GROWING = ("numpy.exp", "numpy.exp2", "numpy.expm1")


def data() -> tuple[pd.DataFrame, Any]:
    frame = pd.DataFrame(np.random.default_rng(0).exponential(3, size=(100, 2)), columns=["a", "b"])
    return frame, (frame.a * 2 + frame.b + 1).to_numpy()


@pytest.mark.parametrize("name", sorted({*FUNCTIONS} - {"numpy.reciprocal"}))
def test_every_function_of_the_table(name: str, tmp_path: Path) -> None:
    frame, target = data()
    step = FunctionTransformer(getattr(np, name.removeprefix("numpy.")))
    estimator = make_pipeline(step, LinearRegression(fit_intercept=False)).fit(frame, target)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc(frame.clip(upper=frame[:3].to_numpy().max()), within=1e-12)
    if name not in GROWING:
        deployed.assert_equals_pyfunc(frame * 3, within=1e-12)
    if name not in POLES:
        deployed.assert_equals_pyfunc(frame * 1e-17, within=1e-12)


TARGETS: dict[str, Any] = {
    "a logarithm": {"func": np.log, "inverse_func": np.exp},
    "a logarithm of more than one": {"func": np.log1p, "inverse_func": np.expm1},
    "a standard scaler": {"transformer": StandardScaler()},
    "a scaler without a mean": {"transformer": StandardScaler(with_mean=False)},
    "a scaler to a range": {"transformer": MinMaxScaler((-1, 2))},
    "nothing": {},
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("last", [LinearRegression(), RandomForestRegressor(5, random_state=0)], ids=["line", "forest"])
def test_a_transformed_target(last: Any, kind: str, tmp_path: Path) -> None:
    frame, target = data()
    curved = ColumnTransformer([("curve", FunctionTransformer(np.tanh), ["a"])], remainder="passthrough")
    estimator = TransformedTargetRegressor(make_pipeline(curved, last), **TARGETS[kind]).fit(frame, target)

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, frame))

    deployed.assert_equals_pyfunc(frame, within=1e-12)


def test_a_way_back_that_no_graph_knows_is_refused(tmp_path: Path) -> None:
    frame, target = data()
    quantiles = QuantileTransformer(n_quantiles=10)
    estimator = TransformedTargetRegressor(LinearRegression(), transformer=quantiles).fit(frame, target)

    with pytest.raises(NotConvertible, match="inverse of the target's QuantileTransformer"):
        deploy(save_sklearn(tmp_path / "model", estimator, frame))


def test_an_unknown_way_back_is_refused(tmp_path: Path) -> None:
    frame, target = data()
    estimator = TransformedTargetRegressor(LinearRegression(), func=np.cbrt, inverse_func=_cubed).fit(frame, target)

    with pytest.raises(NotConvertible, match=r"function _cubed can't be converted to ONNX; use one of numpy"):
        deploy(save_sklearn(tmp_path / "model", estimator, frame))


def _cubed(values: Any) -> Any:
    return values**3


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
def test_powers_that_make_columns_normal(method: Any, standardize: Any, tmp_path: Path) -> None:
    """Powers near zero and two are logarithms, where a plain power loses its digits."""
    random = np.random.default_rng(3)
    columns = {"a": random.normal(0, 1, 200), "b": np.exp(random.normal(0, 2, 200)), "c": random.gamma(2, 10, 200)}
    rows = pd.DataFrame(columns).abs() + 0.1 if method == "box-cox" else pd.DataFrame(columns)
    estimator = PowerTransformer(method=method, standardize=standardize).fit(rows)
    estimator.lambdas_[0] = 0.0 if method == "box-cox" else 2.0

    deployed = deploy(save_sklearn(tmp_path / "model", estimator, rows, pyfunc_predict_fn="transform"))

    np.testing.assert_allclose(deployed.predict(rows), estimator.transform(rows), rtol=1e-9, atol=1e-12)
