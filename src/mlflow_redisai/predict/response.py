"""
What predict returns: MLflow's PredictionsResponse around pyfunc's own container, and its JSON.

Invariant: `get_predictions()` returns the very object that pyfunc would have returned. `to_json()` is valid JSON for
every such object: NaN and infinities, which JSON lacks, become null. It has the shape that MLflow's scoring server
uses, records for a frame and nested lists for an array.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.deployments import PredictionsResponse

from redisai_engine.codec.answers import plain


class Predictions(PredictionsResponse):
    """A dict with the key `predictions`, as all MLflow clients expect."""

    def __init__(self, predictions: Any) -> None:
        super().__init__({"predictions": predictions})

    def get_predictions(self, predictions_format: str | None = None, dtype: Any = None) -> Any:
        """
        Return what mlflow.pyfunc would have returned, or that as a "dataframe" or "ndarray".

        `dtype` applies to "ndarray" only. Raise MlflowException (INVALID_PARAMETER_VALUE) for any other format.
        """
        if predictions_format is None:
            return self["predictions"]
        readable: Any = PredictionsResponse(predictions=_for_mlflow(self["predictions"]))
        return readable.get_predictions(predictions_format, dtype)

    def to_json(self, path: str | Path | None = None) -> str | None:
        """Write the answer as JSON to `path`, or return the JSON."""
        text = json.dumps({key: plain(value) for key, value in self.items()}, allow_nan=False)
        if path is None:
            return text
        Path(path).write_text(text, encoding="utf-8")
        return None


def _for_mlflow(value: Any) -> Any:
    """
    Return a value as MLflow's reader needs it, which makes frames of flat columns only.

    A matrix becomes a column of rows, and a Series becomes a frame.
    """
    import pandas as pd

    if isinstance(value, pd.Series):
        return value.to_frame()
    if isinstance(value, dict):
        return {key: list(item) if np.ndim(item) > 1 else item for key, item in value.items()}
    return value
