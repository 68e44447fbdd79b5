"""
What predict returns: MLflow's PredictionsResponse around pyfunc's own container, and its JSON.

Invariant: `get_predictions()` returns the very object that pyfunc would have returned; `to_json()` is valid JSON for
every such object (NaN and infinities, which JSON lacks, become null), in the shape of MLflow's scoring server:
records for a frame, nested lists for an array.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.deployments import PredictionsResponse

from redisai_engine.codec.answers import plain


class Predictions(PredictionsResponse):
    """A dict with the key `predictions`, as every MLflow client expects it."""

    def __init__(self, predictions: Any) -> None:
        super().__init__({"predictions": predictions})

    def get_predictions(self, predictions_format: str | None = None, dtype: Any = None) -> Any:
        """
        Return what mlflow.pyfunc would have returned, or with "dataframe" or "ndarray" that container.

        `dtype` is for "ndarray" only. Any other format: MlflowException INVALID_PARAMETER_VALUE.
        """
        if predictions_format is None:
            return self["predictions"]
        readable: Any = PredictionsResponse(predictions=_for_mlflow(self["predictions"]))
        return readable.get_predictions(predictions_format, dtype)

    def to_json(self, path: str | Path | None = None) -> str | None:
        """Write the answer as JSON to `path`, or return it as text."""
        text = json.dumps({key: plain(value) for key, value in self.items()}, allow_nan=False)
        if path is None:
            return text
        Path(path).write_text(text, encoding="utf-8")
        return None


def _for_mlflow(value: Any) -> Any:
    """MLflow's reader makes frames of flat columns only; a matrix becomes a column of rows, a Series its own frame."""
    import pandas as pd

    if isinstance(value, pd.Series):
        return value.to_frame()
    if isinstance(value, dict):
        return {key: list(item) if np.ndim(item) > 1 else item for key, item in value.items()}
    return value
