"""Data sets of scikit-learn, and models of the boosting libraries saved with MLflow."""

from __future__ import annotations

import importlib
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

#: What the names of each library's estimators begin with, and the options of small ones.
LIBRARIES: dict[str, tuple[str, dict[str, Any]]] = {
    "xgboost": ("XGB", {"n_estimators": 8}),
    "lightgbm": ("LGBM", {"n_estimators": 8, "verbose": -1}),
    "catboost": ("CatBoost", {"iterations": 8, "verbose": 0, "allow_writing_files": False}),
}


def made(library: str, kind: str, **options: Any) -> Any:
    """Return a small "Classifier", "Regressor" or "Ranker". Skip the test where the library isn't installed."""
    module = pytest.importorskip(library, reason=f'not installed: pip install "mlflow-redisai[{library}]"')
    prefix, settings = LIBRARIES[library]
    return getattr(module, f"{prefix}{kind}")(**settings, **options)


def cancer() -> tuple[pd.DataFrame, np.ndarray]:
    """Return 569 rows of 30 columns, and two classes as text. Training on every other row holds out 284."""
    data = load_breast_cancer(as_frame=True)
    return data.data, np.array(data.target_names)[data.target]


def diabetes() -> tuple[pd.DataFrame, np.ndarray]:
    """Return 442 rows of 10 columns, and a number for each. Training on every other row holds out 221."""
    data = load_diabetes(as_frame=True)
    return data.data, data.target.to_numpy()


def digits() -> tuple[pd.DataFrame, np.ndarray]:
    """Return 600 images of 64 numbers, and ten classes."""
    data = load_digits(as_frame=True)
    return data.data.iloc[:600], data.target.to_numpy()[:600]


def with_gaps(frame: pd.DataFrame, value: float = np.nan) -> pd.DataFrame:
    """Return a frame with `value` in a fifth of the cells."""
    return frame.mask(np.random.default_rng(1).random(frame.shape) < 0.2, value)


def with_categories(frame: pd.DataFrame, kinds: int) -> pd.DataFrame:
    """Return the diabetes data with two columns as pandas categoricals of text."""
    names = [f"kind {index}" for index in range(kinds)]
    columns = {name: pd.Categorical(pd.cut(frame[name], kinds, labels=names).astype(str)) for name in ("bmi", "s1")}
    return frame.assign(**columns)


def save_boosted(path: Path, flavor: str, model: Any, inputs: Any, **options: Any) -> Path:
    """Save a model with a signature and an input example, as the documentation recommends. Return the path."""
    from mlflow.models import infer_signature

    save = importlib.import_module(f"mlflow.{flavor}").save_model
    if flavor == "lightgbm" and "serialization_format" in signature(save).parameters:
        # skops, the default of MLflow 3, requires classes of other libraries to be listed as trusted.
        options.setdefault("serialization_format", "cloudpickle")
    options.setdefault("input_example", inputs[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options.setdefault("signature", infer_signature(inputs))
        save(model, str(path), pip_requirements=[], **options)
    return path
