"""Saves models of the boosting libraries with MLflow, on data that scikit-learn carries."""

from __future__ import annotations

import importlib
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits


def cancer() -> tuple[pd.DataFrame, np.ndarray]:
    """569 rows, 30 columns, two classes as text; train on every other row, and 284 are held out."""
    data = load_breast_cancer(as_frame=True)
    return data.data, np.array(data.target_names)[data.target]


def diabetes() -> tuple[pd.DataFrame, np.ndarray]:
    """442 rows, 10 columns, a number; train on every other row, and 221 are held out."""
    data = load_diabetes(as_frame=True)
    return data.data, data.target.to_numpy()


def digits() -> tuple[pd.DataFrame, np.ndarray]:
    """600 images of 64 numbers, ten classes."""
    data = load_digits(as_frame=True)
    return data.data.iloc[:600], data.target.to_numpy()[:600]


def with_gaps(frame: pd.DataFrame, value: float = np.nan) -> pd.DataFrame:
    """Puts `value` into a fifth of the cells."""
    return frame.mask(np.random.default_rng(1).random(frame.shape) < 0.2, value)


def with_categories(frame: pd.DataFrame, kinds: int) -> pd.DataFrame:
    """Makes two columns of the diabetes data categories, as text in pandas' type."""
    names = [f"kind {index}" for index in range(kinds)]
    columns = {name: pd.Categorical(pd.cut(frame[name], kinds, labels=names).astype(str)) for name in ("bmi", "s1")}
    return frame.assign(**columns)


def save_boosted(path: Path, flavor: str, model: Any, inputs: Any, **options: Any) -> Path:
    """Saves with signature and input example, as users are told to."""
    from mlflow.models import infer_signature

    save = importlib.import_module(f"mlflow.{flavor}").save_model
    if flavor == "lightgbm" and "serialization_format" in signature(save).parameters:
        # The default of MLflow 3, skops, wants classes of other libraries to be named as trusted.
        options.setdefault("serialization_format", "cloudpickle")
    options.setdefault("input_example", inputs[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options.setdefault("signature", infer_signature(inputs))
        save(model, str(path), pip_requirements=[], **options)
    return path
