"""
The answer of predict: MLflow's PredictionsResponse around pyfunc's own container, and its JSON.

Invariant: `get_predictions()` gives back the very object that pyfunc would have given; `to_json()` is valid JSON for
every such object (NaN and infinities, which JSON lacks, become null), in the shape of MLflow's scoring server:
records for a frame, nested lists for an array.
"""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.deployments import PredictionsResponse


class Predictions(PredictionsResponse):
    """A dict with the key `predictions`, as every MLflow client expects it."""

    def __init__(self, predictions: Any) -> None:
        super().__init__({"predictions": predictions})

    def get_predictions(self, predictions_format: str | None = None, dtype: Any = None) -> Any:
        """
        Gives what mlflow.pyfunc would have given, or with "dataframe" or "ndarray" that container.

        `dtype` is for "ndarray" only. Any other format: MlflowException INVALID_PARAMETER_VALUE.
        """
        if predictions_format is None:
            return self["predictions"]
        readable: Any = PredictionsResponse(predictions=_for_mlflow(self["predictions"]))
        return readable.get_predictions(predictions_format, dtype)

    def to_json(self, path: str | Path | None = None) -> str | None:
        """Writes the answer as JSON to `path`, or gives it as text."""
        text = json.dumps({key: plain(value) for key, value in self.items()}, allow_nan=False)
        if path is None:
            return text
        Path(path).write_text(text, encoding="utf-8")
        return None


def plain(value: Any) -> Any:
    """Turns arrays, frames, numpy scalars and all they hold into what JSON has."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (datetime.date, datetime.time)):
        # NaT is a datetime that differs from itself.
        return value.isoformat() if value == value else None  # noqa: PLR0124
    if value is None or isinstance(value, (str, int)):
        return value
    return _pandas_plain(value)


def _pandas_plain(value: Any) -> Any:
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict(orient="records"))
    if isinstance(value, (pd.Series, pd.Index)):
        return plain(value.tolist())
    if value is pd.NA or value is pd.NaT:
        return None
    return str(value)


def _key(key: Any) -> str:
    return str(key.item() if isinstance(key, np.generic) else key)


def _for_mlflow(value: Any) -> Any:
    """MLflow's reader makes frames of flat columns only; a matrix becomes a column of rows, a Series its own frame."""
    import pandas as pd

    if isinstance(value, pd.Series):
        return value.to_frame()
    if isinstance(value, dict):
        return {key: list(item) if np.ndim(item) > 1 else item for key, item in value.items()}
    return value
