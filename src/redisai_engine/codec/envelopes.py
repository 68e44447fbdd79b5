"""
Unwraps an input in one of MLflow's JSON forms: parsed, as Python values, or as the frame that pandas.read_json made.

pandas.read_json turns "001" into 1, and columns with names like `date` or `made_at` into times. From an envelope such
as {"inputs": ...} it makes a frame whose cells hold lists. Its conversions can't be undone, so such a frame is
unwrapped only as far as its cells go. A caller that has the JSON itself passes it as a `Document`.

Invariant: the result consists of frames, arrays, dicts of columns and plain lists only. The element types of values
from JSON are decided by the signature, in `encoder`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from redisai_engine.codec.errors import InputMismatch

_logger = logging.getLogger(__name__)

# The parameters of a model's signature, each with the only value that is answered.
Params = Sequence[tuple[str, Any]]

ENVELOPES = ("inputs", "instances", "dataframe_split", "dataframe_records")
_SPLIT_KEYS = {"columns", "index", "data"}


@dataclass(frozen=True)
class Document:
    """A parsed JSON document in any of MLflow's forms, as `json.loads` returns it."""

    value: Any


def unwrap(inputs: Any, names: Collection[str] = (), params: Params = ()) -> Any:
    """
    Return the contents of the envelope, or `inputs` itself if there is none.

    `names` are the model's own columns or tensors. A key that is one of them is not an envelope. Raise InputMismatch
    for a malformed envelope, and for one whose `params` ask for another value than the model's own.
    """
    if isinstance(inputs, Document):
        return from_json(inputs.value, names, params)
    module = type(inputs).__module__
    if module.startswith("pandas") and hasattr(inputs, "columns"):
        return _unwrap_frame(inputs, names, params)
    if isinstance(inputs, dict):
        return _unwrap_dict(inputs, names, params)
    return inputs


def from_json(value: Any, names: Collection[str] = (), params: Params = ()) -> Any:
    """Return what a parsed JSON document stands for. It may be an envelope, records, columns, split, rows or values."""
    if isinstance(value, dict):
        unwrapped = _unwrap_dict(value, names, params)
        return _columns_of(unwrapped) if unwrapped is value else unwrapped
    if isinstance(value, list):
        return value
    raise InputMismatch(f"the input must be a JSON list or object, got {value!r}")


# -- frames ---------------------------------------------------------------------------------------


def _unwrap_frame(frame: Any, names: Collection[str], params: Params) -> Any:
    # Nearly all frames return here: no envelope has more columns than the split form.
    if len(frame.columns) > len(_SPLIT_KEYS):
        return frame
    keys = {key for key in frame.columns if isinstance(key, str)} - set(names)
    for key in ENVELOPES:
        if key in keys and keys <= {key, "params"}:
            if "params" in keys:
                _check_params(_cells(frame, "params"), params)
            return _envelope(key, _cells(frame, key))
    if keys == _SPLIT_KEYS and set(frame.columns) == _SPLIT_KEYS:
        return _split({key: frame[key].tolist() for key in _SPLIT_KEYS})
    return frame


def _cells(frame: Any, key: str) -> Any:
    """Return the JSON value that pandas.read_json spread over a column. The index holds the keys of an object."""
    column = frame[key]
    if all(isinstance(label, str) for label in column.index):
        pairs = zip(column.index, column.tolist(), strict=True)
        # A second key next to the envelope (params) adds rows of NaN.
        return {label: cell for label, cell in pairs if isinstance(cell, (list, dict, str)) or cell == cell}  # noqa: PLR0124
    return column.tolist()


# -- dicts ----------------------------------------------------------------------------------------


def _unwrap_dict(value: dict[Any, Any], names: Collection[str], params: Params) -> Any:
    found = [key for key in ENVELOPES if key in value and key not in names]
    if len(found) > 1:
        raise InputMismatch(f"the input must have only one of {', '.join(ENVELOPES)}, got {' and '.join(found)}")
    if found and set(value) <= {found[0], "params"}:
        _check_params(value.get("params"), params)
        return _envelope(found[0], value[found[0]])
    # A model may itself have a column named `data`, `index` or `columns`.
    if set(value) <= _SPLIT_KEYS and {"columns", "data"} <= set(value) and not _SPLIT_KEYS & set(names):
        return _split(value)
    return value


def _check_params(given: Any, params: Params) -> None:
    """
    Raise InputMismatch for a parameter with another value than its default.

    Parameters that the signature lacks are ignored with a warning, as in MLflow.
    """
    if given is None:
        return
    if not isinstance(given, dict):
        raise InputMismatch(f"params must be an object of names and values, got {given!r}")
    known = dict(params)
    ignored = [name for name in given if name not in known]
    if ignored:
        _logger.warning("ignoring params that the model's signature doesn't have: %s", ignored)
    for name, default in params:
        if name in given and not _is_same(given[name], default):
            raise InputMismatch(
                f"params ask for {name}={given[name]!r}, but this deployment answers only for {name}={default!r}, the "
                "default in the model's signature; leave it out, or log the model with another default"
            )


def _is_same(given: Any, default: Any) -> bool:
    # For MLflow, neither True nor 1.0 is the integer 1, while an integer may stand for floating point.
    if isinstance(given, bool) is not isinstance(default, bool):
        return False
    if isinstance(given, float) and isinstance(default, int):
        return False
    return bool(given == default)


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
        raise InputMismatch(f"the split form must have data and may have columns and index, got {', '.join(value)}")
    rows, names = value["data"], value.get("columns")
    if not isinstance(rows, list):
        raise InputMismatch(f"data must be a list of rows, got {type(rows).__name__}")
    if names is None:
        return rows
    if not isinstance(names, list):
        raise InputMismatch(f"columns must be a list of names, got {type(names).__name__}")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise InputMismatch(f"row {number} of data must be a list of {len(names)} values, got {row!r}")
    return {str(name): [row[index] for row in rows] for index, name in enumerate(names)}


def _columns_of(value: dict[str, Any]) -> Any:
    """Read pandas' form `columns`: a dict of lists, or a dict of objects from row label to value."""
    if value and all(isinstance(column, dict) for column in value.values()):
        # A label that a column lacks becomes a gap.
        labels = list(dict.fromkeys(label for column in value.values() for label in column))
        return {name: [column.get(label) for label in labels] for name, column in value.items()}
    return value
