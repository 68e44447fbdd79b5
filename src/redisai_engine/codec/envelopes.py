"""
Unwraps what predict was given: MLflow's JSON forms, as they come through pandas.read_json or as Python values.

`mlflow deployments predict -I FILE` reads the file with pandas.read_json before the plugin sees anything. That turns
"001" into 1, makes times of columns with names like `date` or `made_at`, and makes a frame of cells holding lists out
of an envelope such as {"inputs": ...}. What it turned can't be turned back, so under that command the file is read
again, as JSON. A frame that a program read by itself is unwrapped as far as its cells go.

Invariant: the result holds only frames, arrays, dicts of columns and plain lists; the element types of what came as
JSON are decided by the signature, in `tensors`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Collection
from typing import Any

from redisai_engine.codec.errors import InputMismatch

_logger = logging.getLogger(__name__)

ENVELOPES = ("inputs", "instances", "dataframe_split", "dataframe_records")
_SPLIT_KEYS = {"columns", "index", "data"}


class Columns(dict[str, list[Any]]):
    """Columns that came as JSON: by name, or by their position as text when `named` is False."""

    named = True


def unwrap(inputs: Any, names: Collection[str] = ()) -> Any:
    """
    Gives what stands inside the envelope, or `inputs` itself.

    `names` are the model's own columns or tensors: a key that is one of them is no envelope.
    """
    module = type(inputs).__module__
    if module.startswith("pandas") and hasattr(inputs, "columns"):
        return _unwrap_frame(inputs, names)
    if isinstance(inputs, dict):
        return _unwrap_dict(inputs, names)
    return inputs


def from_json(value: Any, names: Collection[str] = ()) -> Any:
    """Gives what a parsed JSON document means: an envelope, records, columns, split, rows or values."""
    if isinstance(value, dict):
        unwrapped = _unwrap_dict(value, names)
        return _columns_of(unwrapped) if unwrapped is value else unwrapped
    if isinstance(value, list):
        return value
    raise InputMismatch(f"the input must be a JSON list or object, got {value!r}")


# -- frames ---------------------------------------------------------------------------------------


def _unwrap_frame(frame: Any, names: Collection[str]) -> Any:
    # click is there only if a command line was parsed.
    if "click" in sys.modules:
        document = _document_of_the_command()
        if document is not None:
            return from_json(document, names)
    if len(frame.columns) > len(_SPLIT_KEYS):
        return frame
    keys = {key for key in frame.columns if isinstance(key, str)} - set(names)
    for key in ENVELOPES:
        if key in keys and keys <= {key, "params"}:
            return _envelope(key, _cells(frame, key))
    if keys == _SPLIT_KEYS and set(frame.columns) == _SPLIT_KEYS:
        return _split({key: frame[key].tolist() for key in _SPLIT_KEYS})
    return frame


def _cells(frame: Any, key: str) -> Any:
    """Gives back the JSON value that pandas.read_json spread over a column; its index holds the keys of an object."""
    column = frame[key]
    if all(isinstance(label, str) for label in column.index):
        pairs = zip(column.index, column.tolist(), strict=True)
        # A second key beside the envelope (params) adds rows of NaN.
        return {label: cell for label, cell in pairs if isinstance(cell, (list, dict, str)) or cell == cell}  # noqa: PLR0124
    return column.tolist()


def _document_of_the_command() -> Any:
    """Reads the file that `mlflow deployments predict` was given once more, None outside that command."""
    import click

    context = click.get_current_context(silent=True)
    callback = getattr(context.command, "callback", None) if context is not None else None
    if context is None or getattr(callback, "__module__", None) != "mlflow.deployments.cli":
        return None
    path = context.params.get("input_path")
    # Not a pipe or a URL: what was read there is gone, or would be fetched twice.
    if not isinstance(path, str) or not os.path.isfile(path):
        return None
    return _read(path)


def _read(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        # Compressed, or in a form that only pandas reads; its frame is used as it is.
        return None


# -- dicts ----------------------------------------------------------------------------------------


def _unwrap_dict(value: dict[Any, Any], names: Collection[str]) -> Any:
    found = [key for key in ENVELOPES if key in value and key not in names]
    if len(found) > 1:
        raise InputMismatch(f"the input must have one of {', '.join(ENVELOPES)}, got {' and '.join(found)}")
    if found and set(value) <= {found[0], "params"}:
        if value.get("params"):
            _logger.warning("params are ignored: a deployed model takes none")
        return _envelope(found[0], value[found[0]])
    if set(value) <= _SPLIT_KEYS and {"columns", "data"} <= set(value) and not _SPLIT_KEYS & set(names):
        return _split(value)
    return value


def _envelope(key: str, value: Any) -> Any:
    if key == "dataframe_split":
        if not isinstance(value, dict):
            raise InputMismatch(f"dataframe_split must be an object with columns and data, got {type(value).__name__}")
        return _split(value)
    if key == "dataframe_records" and not isinstance(value, list):
        raise InputMismatch(f"dataframe_records must be a list of objects, got {type(value).__name__}")
    return value


def _split(value: dict[Any, Any]) -> Any:
    unknown = set(value) - _SPLIT_KEYS
    if "data" not in value or unknown:
        raise InputMismatch(f"the split form has the keys columns, data and perhaps index, got {', '.join(value)}")
    rows, names = value["data"], value.get("columns")
    if not isinstance(rows, list):
        raise InputMismatch(f"data must be a list of rows, got {type(rows).__name__}")
    if names is None:
        return rows
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise InputMismatch(f"row {number} of data must be a list of {len(names)} values, got {row!r}")
    return Columns({str(name): [row[index] for row in rows] for index, name in enumerate(names)})


def _columns_of(value: dict[str, Any]) -> Any:
    """pandas' form `columns`: lists by name, or objects from row label to value by name."""
    if value and all(isinstance(column, dict) for column in value.values()):
        labels = list(dict.fromkeys(label for column in value.values() for label in column))
        return Columns({name: [column.get(label) for label in labels] for name, column in value.items()})
    return value
