"""
The input example that is kept in the record: JSON that `/invocations` takes, for health checks and to try a model.

Invariant: it has at most `MOST_BYTES`. A larger example is cut to fewer rows, or left out.
"""

from __future__ import annotations

import json
from typing import Any

from mlflow_redisai.models.loading import MlflowModel

MOST_BYTES = 16 * 1024
_ROWS = (None, 8, 1)  # None: all


def kept_example(model: MlflowModel) -> str:
    """Return the model's input example as JSON in one of MLflow's forms; empty if it has none that fits."""
    try:
        example = model.input_example
        texts = [] if example is None else [as_json(first_rows(example, rows)) for rows in _ROWS]
    except Exception:  # an example that can't be read or written is of no use, but no reason not to deploy
        return ""
    return next((text for text in texts if len(text.encode()) <= MOST_BYTES), "")


def as_json(example: Any) -> str:
    """Return an example as JSON."""
    if hasattr(example, "columns") and hasattr(example, "to_json"):
        split = json.loads(example.to_json(orient="split", date_format="iso", double_precision=15))
        return json.dumps({"dataframe_split": {"columns": split["columns"], "data": split["data"]}})
    return json.dumps({"inputs": _plain(example)}, allow_nan=False)


def first_rows(example: Any, rows: int | None) -> Any:
    """Return the first rows of an example, or, of what has none, all of it."""
    if rows is None or isinstance(example, str):
        return example
    if isinstance(example, dict):
        return {name: first_rows(part, rows) for name, part in example.items()}
    if hasattr(example, "head"):
        return example.head(rows)
    is_scalar = not hasattr(example, "__getitem__") or getattr(example, "ndim", None) == 0
    return example if is_scalar else example[:rows]


def _plain(value: Any) -> Any:
    """Return an example as values that JSON has. Raise TypeError by way of `json.dumps` where there are none."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.tolist() if hasattr(value, "tolist") else value
