"""
Unwraps an input in one of MLflow's JSON forms: parsed, as Python values, or as the frame that pandas.read_json made.

pandas.read_json turns "001" into 1, and columns with names like `date` or `made_at` into times. From an envelope such
as {"inputs": ...} it makes a frame whose cells hold lists. Its conversions can't be undone, so such a frame is
unwrapped only as far as its cells go. A caller that has the JSON itself passes it as a `Document`.

Invariant: the result consists of frames, arrays, dicts of columns and plain lists only. The element types of values
from JSON are decided by the signature, in `encoder`.
"""

from __future__ import annotations

import base64
import contextlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Field, Schema

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
                check_params(_cells(frame, "params"), params)
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
        check_params(value.get("params"), params)
        return _envelope(found[0], value[found[0]])
    # A model may itself have a column named `data`, `index` or `columns`.
    if set(value) <= _SPLIT_KEYS and {"columns", "data"} <= set(value) and not _SPLIT_KEYS & set(names):
        return _split(value)
    return value


def check_params(given: Any, params: Params) -> None:
    """
    Raise InputMismatch for a parameter with another value than its default.

    Parameters that the signature lacks are ignored with a warning, as in MLflow.
    """
    if given is None:
        return
    if not isinstance(given, dict) and not params:
        _logger.warning("ignoring params %.100r, because the model's signature has none", given)
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


# -- for Python models ------------------------------------------------------------------------------

# The keys by which MLflow's scoring server recognizes a request to a language model. It passes the object on.
_LANGUAGE_KEYS = {"messages", "prompt", "input"}
# The types of columns that MLflow converts JSON's values to, as NumPy has them.
_COLUMN_TYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "datetime": "datetime64[ns]",
    "string": "str",
}


def for_python(value: Any, schema: Schema | None, params: Collection[str] = ()) -> tuple[Any, dict[str, Any] | None]:
    """
    Return what a parsed JSON document means to pyfunc, and the params in it, as MLflow's scoring server reads it.

    `params` are the names of the signature's parameters. A document without an envelope is the frame that MLflow's
    command line makes of it, an array if the model takes one, or the request to a language model. Raise InputMismatch.
    """
    if isinstance(value, dict):
        names = schema.names() if schema is not None else ()
        found = [key for key in ENVELOPES if key in value and key not in names]
        if len(found) == 1 and set(value) <= {found[0], "params"}:
            return _python_envelope(found[0], value[found[0]], schema), value.get("params")
        if not _LANGUAGE_KEYS.isdisjoint(value):
            asked = {key: item for key, item in value.items() if key in params}
            return {key: item for key, item in value.items() if key not in asked}, asked or None
        if {"columns", "data"} <= set(value) <= _SPLIT_KEYS:
            return _python_frame(_split_parts(value), schema), None
        if value and all(isinstance(item, (list, dict)) for item in value.values()):
            return _python_frame({"data": value}, schema), None
        return value, None
    if isinstance(value, list) and (schema is None or schema.kind == "columns"):
        return _python_frame({"data": value}, schema), None
    return _python_values(value, schema), None


def _python_envelope(key: str, value: Any, schema: Schema | None) -> Any:
    if key == "dataframe_split":
        return _python_frame(_split_parts(value), schema)
    if key == "dataframe_records":
        return _python_frame({"data": _envelope(key, value)}, schema)
    if key == "instances" and isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        columns: dict[str, list[Any]] = {}
        for item in value:
            for name, cell in item.items():
                columns.setdefault(name, []).append(cell)
        value = columns
    return _python_values(value, schema)


def _split_parts(value: Any) -> dict[str, Any]:
    _envelope("dataframe_split", value)
    return {key: value[key] for key in _SPLIT_KEYS if key in value}


def _python_frame(parts: dict[str, Any], schema: Schema | None) -> Any:
    """Return the frame of these parts, its columns converted to the signature's types where they can be."""
    import pandas as pd

    try:
        frame = pd.DataFrame(**parts)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputMismatch(f"the input is no table: {str(error)[:200]}") from None
    if schema is None or schema.kind != "columns":
        return frame
    labels = schema.labels() if schema.named else frame.columns
    for label, item in zip(labels, schema.fields):  # noqa: B905 (an input may have fewer columns)
        if label in frame.columns and item.type != "string":
            # What can't be converted is for pyfunc to refuse, by the name of the column.
            with contextlib.suppress(ValueError, TypeError, OverflowError):
                frame[label] = _python_column(frame[label], item.type)
    return frame


def _python_column(column: Any, kind: str) -> Any:
    if kind == "binary":
        return column.map(lambda text: base64.decodebytes(text.encode()))
    return column.astype(_COLUMN_TYPES[kind]) if kind in _COLUMN_TYPES else column


def _python_values(value: Any, schema: Schema | None) -> Any:
    """Return the arrays that MLflow makes of the values of `inputs` and `instances`."""
    fields = {item.name: item for item in schema.fields} if schema is not None and schema.named else {}
    lists_of_objects = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    if len(fields) == 1 and isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        value = {next(iter(fields)): value}
    if isinstance(value, dict):
        return {name: _python_array(item, fields.get(name)) for name, item in value.items()}
    if lists_of_objects:
        return [{name: _python_array(cell, fields.get(name)) for name, cell in item.items()} for item in value]
    return _python_array(value, schema.fields[0] if schema is not None else None)


def _python_array(value: Any, field: Field | None) -> Any:
    import numpy as np

    if field is None:
        kind: str | None = None
    else:  # a tensor has NumPy's name of its type
        kind = field.type if field.used else _COLUMN_TYPES.get(field.type, "")
    if kind == "":  # nested, or anything
        return value
    try:
        array = np.array(value, dtype=kind)
    except (ValueError, TypeError, OverflowError) as error:
        name = "the input" if field is None or field.name is None else f"{field.name!r}"
        raise InputMismatch(f"{name} must be {kind or 'an array'}, got {value!r:.80}: {str(error)[:80]}") from None
    return array if isinstance(value, list) or field is None or field.shape else array[()]
