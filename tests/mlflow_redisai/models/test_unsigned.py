"""
Models without a signature, whose input pyfunc hands on unchanged: whether names or positions count is the library's
own affair, whatever the input example calls its columns.
"""

from __future__ import annotations

import importlib
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from support.local_runs import Deployed, deploy

FRAME = pd.DataFrame(np.random.default_rng(1).normal(size=(60, 3)), columns=list("abc"))
TARGET = FRAME @ [1, 10, 100]
ROWS = FRAME[20:26].reset_index(drop=True)
FORMS = {
    "in order": ROWS,
    "permuted": ROWS[["c", "a", "b"]],
    "renamed": ROWS.set_axis(["x", "y", "z"], axis=1),
    "names exchanged": ROWS.set_axis(["b", "a", "c"], axis=1),
    "one too many": ROWS.assign(d=5.0),
    "one too many in front": pd.concat([ROWS[["a"]].set_axis(["q"], axis=1), ROWS], axis=1),
    "one too few": ROWS[["a", "b"]],
    "an array": ROWS.to_numpy(),
}


def lightgbm_() -> Any:
    import lightgbm

    return lightgbm.LGBMRegressor(n_estimators=5, min_child_samples=3, verbose=-1)


def xgboost_() -> Any:
    import xgboost

    return xgboost.XGBRegressor(n_estimators=5)


def catboost_() -> Any:
    import catboost

    return catboost.CatBoostRegressor(n_estimators=5, verbose=0, allow_writing_files=False)


MODELS: dict[str, tuple[str, Callable[[], Any]]] = {
    "linear": ("sklearn", LinearRegression),
    "tree": ("sklearn", lambda: DecisionTreeRegressor(max_depth=4)),
    "pipeline": ("sklearn", lambda: make_pipeline(StandardScaler(), PCA(2), LinearRegression())),
    "search": ("sklearn", lambda: GridSearchCV(DecisionTreeRegressor(), {"max_depth": [2, 4]}, cv=2)),
    "lightgbm in a search": ("sklearn", lambda: GridSearchCV(lightgbm_(), {"num_leaves": [3, 5]}, cv=2)),
    "lightgbm": ("lightgbm", lightgbm_),
    "xgboost": ("xgboost", xgboost_),
    "catboost": ("catboost", catboost_),
}
EXAMPLES = {"a frame": FRAME[:3], "an array": FRAME[:3].to_numpy(), "none": None}


def saved(path: Path, flavor: str, model: Any, example: Any) -> Path:
    formats = {"sklearn": "cloudpickle", "pytorch": "pickle"}
    options: dict[str, Any] = {"serialization_format": formats[flavor]} if flavor in formats else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(f"mlflow.{flavor}").save_model(
            model, str(path), pip_requirements=[], signature=False, input_example=example, **options
        )
    return path


def answer(ask: Callable[[Any], Any], rows: Any) -> Any:
    """Return the numbers that are answered, None for an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(ask(rows), float).ravel()
    except Exception:
        return None


def wrong(deployed: Deployed, dtype: str = "float64") -> list[str]:
    """Return the forms of input to which the deployment answers otherwise than the model."""
    found = []
    for name, form in FORMS.items():
        rows = form.astype(dtype)
        expected, actual = answer(deployed.expected, rows), answer(deployed.predict, rows)
        if expected is None:  # the deployment may know better which column is which
            continue
        if actual is None and "too many" in name:  # CatBoost looks at the first ones, and the rest may be a mistake
            continue
        if actual is None or not np.allclose(actual, expected, rtol=1e-4):
            found.append(name)
    return found


@pytest.mark.parametrize("trained_on", ["a frame", "an array"])
@pytest.mark.parametrize("name", MODELS)
def test_columns_are_those_that_the_model_itself_takes(name: str, trained_on: str, tmp_path: Path) -> None:
    flavor, make = MODELS[name]
    pytest.importorskip(flavor)
    if "lightgbm" in name:
        pytest.importorskip("lightgbm")
    model = make().fit(FRAME if trained_on == "a frame" else FRAME.to_numpy(), TARGET)

    found = {
        example: wrong(deploy(saved(tmp_path / example, flavor, model, EXAMPLES[example]), flavor))
        for example in EXAMPLES
    }

    assert not any(itertools.chain(*found.values())), found


@pytest.mark.parametrize("example", ["a frame", "an array"])
def test_a_network_takes_columns_by_their_positions(example: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from support.torch_models import deploy_torch

    path = saved(tmp_path, "pytorch", torch.nn.Linear(3, 1), EXAMPLES[example].astype("float32"))

    assert not wrong(deploy_torch(path, "pytorch"), "float32")
