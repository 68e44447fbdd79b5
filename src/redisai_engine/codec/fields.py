"""
Extracts one array for each field of the schema from any container that a user may pass.

Containers are frames, Series, arrays, dicts of columns or arrays, and lists of rows, records or values. If a container
has names, they decide. If it has none (an array, a list of rows), the position decides, and a signature with names
requires exactly as many columns as it has fields. As in MLflow, columns that aren't in the signature are ignored with a
warning.

Invariant: every returned array already has its field's type (`values.fit`). `encoder` checks the number of rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Field, Input, Name, Schema, Shape
from redisai_engine.codec.values import Array, check_known, check_numbers, fit, mark_missing

_logger = logging.getLogger(__name__)

# Frames with up to this many rows are converted to Python objects as a whole: pandas takes about 60 microseconds for a
# small frame, and about 30 for each single column.
SMALL_FRAME_ROWS = 16

# From here on, float64 can't represent every integer.
_EXACT = 2.0**53


def is_frame(value: Any) -> bool:
    """Return whether `value` is a pandas DataFrame. Does not import pandas."""
    return type(value).__name__ == "DataFrame" and type(value).__module__.startswith("pandas")


def is_series(value: Any) -> bool:
    """Return whether `value` is a pandas Series. Does not import pandas."""
    return type(value).__name__ == "Series" and type(value).__module__.startswith("pandas")


def to_array(value: Any, what: str) -> Array:
    """Return an array of a possibly nested list of plain values: an object array if it contains text or gaps."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.array(value)
    except ValueError:
        raise InputMismatch(f"{what} must have rows of equal length, but some are longer than others") from None
    # As objects, because numpy has turned numbers next to text into text.
    if array.dtype.kind in "USO":
        return np.array(value, object)
    return _whole(array) if array.dtype.kind == "f" else array


# -- columns of a frame ---------------------------------------------------------------------------


def take_columns(inputs: Any, schema: Schema) -> list[Array]:
    """
    Return the schema's columns, in its order: one-dimensional arrays of equal length with their fields' types.

    Raise InputMismatch.
    """
    names, get = _table(inputs)
    if not is_frame(inputs):
        names = _numbered(names, schema)
    if not names:
        raise InputMismatch(f"the input has no columns; the model's signature has {_listing(schema)}")
    raw = [_flat(get(position), item, index) for index, (position, item) in enumerate(_found(names, schema))]
    if not (is_frame(inputs) or is_series(inputs)):
        raw = [_as_pandas_has(values, item) for values, item in zip(raw, schema.fields, strict=True)]
    lengths = {len(values) for values in raw}
    if 0 in lengths:
        raise InputMismatch("the input has no rows")
    if len(lengths) > 1:
        counts = ", ".join(
            f"{_column_name(item, index)}: {len(raw[index])}" for index, item in enumerate(schema.fields)
        )
        raise InputMismatch(f"all columns must have the same number of rows, got {counts}")
    return [
        _fitted(values, item, _column_name(item, index))
        for index, (values, item) in enumerate(zip(raw, schema.fields, strict=True))
    ]


def _fitted(values: Array, item: Field, what: str) -> Array:
    """Return the values as the field's type. Raise InputMismatch for values that the model refuses itself."""
    if not item.used:
        # pyfunc checks the types of columns that no model reads. In one of objects, it takes anything.
        is_number = item.dtype.numpy.kind in "iuf"
        return fit(values, item.dtype, what, item.type) if is_number else values
    if item.missing:
        values = mark_missing(values, item.missing, what)
    array = fit(values, item.dtype, what, item.type)
    check_numbers(array, item, what)
    check_known(array, item, what)
    return array


def _as_pandas_has(values: Array, item: Field) -> Array:
    """Return a listed column with NaN for None, if it is text in which pandas would make NaN of it."""
    if item.null != "NaN" or not item.missing or not any(isinstance(value, str) for value in values):
        return values
    replaced: Array = values.copy()
    replaced[[value is None for value in values]] = np.nan
    return replaced


def _numbered(names: list[Any], schema: Schema) -> list[Any]:
    """Return names from JSON, where all are text, with numbers for columns that the signature names by numbers."""
    labels = {item.name: item.label for item in schema.fields if item.numbered}
    return [labels.get(name, name) if isinstance(name, str) else name for name in names] if labels else names


def _found(names: list[Any], schema: Schema) -> list[tuple[int, Field]]:
    return list(zip(_positions(names, schema), schema.fields, strict=True))


def _column_name(item: Field, index: int) -> str:
    return f"column {index}" if item.name is None else f"column {item.label!r}"


def _flat(values: Any, item: Field, index: int) -> Array:
    array = values if isinstance(values, np.ndarray) else _objects(values)
    if array.ndim != 1:
        what = _column_name(item, index)
        raise InputMismatch(f"{what} must hold one {item.type} per row, got an array of shape {array.shape}")
    return array


def _positions(names: Sequence[Any], schema: Schema) -> list[int]:
    """Return the positions of the schema's fields among the columns of the input."""
    count = len(schema.fields)
    # pandas numbers columns without names, and so does `_table`.
    unnamed_input = all(isinstance(name, int) for name in names) and list(names) == list(range(len(names)))
    if not schema.named:
        if len(names) < count:
            raise InputMismatch(f"the model's signature has {count} columns, but the input has {len(names)}")
        return list(range(count))
    wanted = schema.labels()
    missing = [name for name in wanted if name not in names]
    if missing and unnamed_input:
        if len(names) != count:
            raise InputMismatch(
                f"the model's signature has {count} columns ({_listing(schema)}), "
                f"but the input has {len(names)} without names"
            )
        return list(range(count))
    if missing:
        raise _missing(missing, names, schema)
    _warn_of_extra([name for name in names if name not in wanted])
    return [_only(names, name) for name in wanted]


def _only(names: Sequence[Any], name: Name) -> int:
    if names.count(name) > 1:
        raise InputMismatch(f"the input has {names.count(name)} columns named {name!r}; keep one of them")
    return names.index(name)


def _missing(missing: list[Name], names: Sequence[Any], schema: Schema) -> InputMismatch:
    which = f"column {missing[0]!r} is" if len(missing) == 1 else f"columns {', '.join(map(repr, missing))} are"
    extra = [name for name in names if name not in schema.labels()]
    got = f"; the input has {', '.join(map(repr, extra[:10]))}, which the model doesn't know" if extra else ""
    return InputMismatch(f"{which} missing; the model's signature has {_listing(schema)}{got}")


def _warn_of_extra(extra: list[Any]) -> None:
    if extra:
        _logger.warning("ignoring input that the model doesn't take: %s", extra)


def _listing(schema: Schema) -> str:
    shown = [
        f"{item.name if item.name is not None else index} ({item.type})" for index, item in enumerate(schema.fields)
    ]
    return ", ".join(shown[:30]) + (f" and {len(shown) - 30} more" if len(shown) > 30 else "")


Getter = Callable[[int], Any]


def _table(inputs: Any) -> tuple[list[Any], Getter]:
    """
    Return the names of the input's columns (0, 1, ... if it has none), and a function to get each by its position.
    """
    if is_frame(inputs):
        return inputs.columns.tolist(), _frame_getter(inputs)
    if is_series(inputs):
        return [0 if inputs.name is None else inputs.name], lambda _: inputs.to_numpy()
    if isinstance(inputs, dict):
        return _dict_table(inputs)
    if isinstance(inputs, np.ndarray):
        return _array_table(inputs)
    if isinstance(inputs, (list, tuple)):
        return _list_table(list(inputs))
    if isinstance(inputs, (str, int, float, np.generic)):
        return [0], lambda _: [inputs]
    raise _unknown(inputs)


def _frame_getter(frame: Any) -> Getter:
    if len(frame) <= SMALL_FRAME_ROWS:
        matrix = frame.to_numpy(dtype=object)
        return lambda position: matrix[:, position]
    return lambda position: frame.iloc[:, position].to_numpy()


def _dict_table(inputs: dict[Any, Any]) -> tuple[list[Any], Getter]:
    values = list(inputs.values())
    # A single row: one value for each column.
    if all(_rank(value) == 0 for value in values):
        return list(inputs), lambda position: [values[position]]
    return list(
        inputs
    ), lambda position: values[position].to_numpy() if is_series(values[position]) else values[position]


def _rank(value: Any) -> int:
    """Return the number of dimensions. NumPy doesn't know that of lists whose elements differ in length."""
    if isinstance(value, (list, tuple)):
        return 1 + max(map(_rank, value), default=0)
    return np.ndim(value)


def _array_table(array: Array) -> tuple[list[Any], Getter]:
    if array.ndim == 1:
        return [0], lambda _: array
    if array.ndim != 2:
        raise InputMismatch(
            f"the model takes columns, so an array must have two dimensions, got the shape {array.shape}"
        )
    return list(range(array.shape[1])), lambda position: array[:, position]


def _list_table(rows: list[Any]) -> tuple[list[Any], Getter]:
    if not rows:
        raise InputMismatch("the input has no rows")
    if isinstance(rows[0], dict):
        names = _record_names(rows)
        return names, lambda position: [row.get(names[position]) for row in rows]
    if isinstance(rows[0], (list, tuple, np.ndarray)):
        width = len(rows[0])
        for number, row in enumerate(rows):
            if not isinstance(row, (list, tuple, np.ndarray)) or len(row) != width:
                raise InputMismatch(f"all rows must have {width} values, like the first, but row {number} is {row!r}")
        return list(range(width)), lambda position: [row[position] for row in rows]
    return [0], lambda _: rows


def _record_names(rows: list[Any]) -> list[Any]:
    """Return the names of all records, in the order in which pandas makes columns of them."""
    _check_records(rows)
    return list(dict.fromkeys(name for row in rows for name in row))


def _check_records(rows: list[Any]) -> None:
    """Raise InputMismatch unless all rows are objects, as the first one is."""
    if not all(isinstance(row, dict) for row in rows):
        raise InputMismatch("rows must be either all objects or all lists")


def _objects(values: Any) -> Array:
    """
    Return a listed column as a flat array.

    Integral floats become integers, because JSON doesn't distinguish them.
    """
    if not isinstance(values, (list, tuple)):
        values = [values] if np.ndim(values) == 0 else list(values)
    array = np.empty(len(values), object)
    array[:] = [int(value) if _is_whole(value) else value for value in values]
    return array


def _is_whole(value: Any) -> bool:
    return type(value) is float and abs(value) < _EXACT and value == int(value)


def _whole(array: Array) -> Array:
    """Return integers instead of floats if all of them are integral, because JSON doesn't distinguish them."""
    with np.errstate(invalid="ignore"):
        whole = bool(np.all(np.abs(array) < _EXACT) and np.all(array == np.trunc(array)))
    return array.astype(np.int64) if whole and array.size else array


# -- tensors --------------------------------------------------------------------------------------


def take_tensors(inputs: Any, schema: Schema) -> list[Array]:
    """Return the schema's tensors, in its order, with their fields' types and shapes. Raise InputMismatch."""
    raw = _named_tensors(inputs, schema) if schema.named else [_unnamed_tensor(inputs, schema.fields[0])]
    return [_shaped(value, item) for value, item in zip(raw, schema.fields, strict=True)]


def _shaped(value: Any, item: Field) -> Array:
    what = _tensor_name(item)
    array = _fitted(to_array(value, what), item, what)
    check_shape(array.shape, item.shape, what)
    return array


def check_shape(shape: tuple[int, ...], expected: Shape, what: str) -> None:
    """Raise InputMismatch unless `shape` matches `expected`, in which None stands for any length."""
    fits = len(shape) == len(expected) and all(e is None or e == s for s, e in zip(shape, expected, strict=True))
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in expected)
        raise InputMismatch(f"{what} must have the shape ({wanted}), got {shape}")


def _tensor_name(item: Field) -> str:
    return "the input" if item.name is None else f"tensor {item.name!r}"


def _named_tensors(inputs: Any, schema: Schema) -> list[Any]:
    if is_series(inputs):
        inputs = inputs.to_frame()
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict):
        inputs = _stacked(inputs)
    if is_frame(inputs):
        inputs = {name: inputs[name] for name in inputs.columns}
    if isinstance(inputs, dict):
        missing = [item.name for item in schema.fields if item.name not in inputs and item.name is not None]
        if missing:
            raise InputMismatch(
                f"tensor {missing[0]!r} is missing; the model's signature has {_listing(schema)}, but "
                f"the input has {', '.join(map(repr, inputs)) or 'none'}"
            )
        _warn_of_extra([name for name in inputs if name not in schema.names()])
        return [_cells(inputs[item.name], item) for item in schema.fields]
    if len(schema.fields) == 1 and isinstance(inputs, (np.ndarray, list)):
        return [inputs]
    if isinstance(inputs, (np.ndarray, list)):
        raise InputMismatch(f"the model takes {len(schema.fields)} tensors ({_listing(schema)}); pass a dict of arrays")
    raise _unknown(inputs)


def _unnamed_tensor(inputs: Any, item: Field) -> Any:
    if is_series(inputs):
        return _cells(inputs, item)
    if is_frame(inputs):
        return _cells(inputs.iloc[:, 0], item) if len(inputs.columns) == 1 else inputs.to_numpy()
    if isinstance(inputs, dict):
        return (
            _side_by_side({name: _objects(column) for name, column in inputs.items()}) if inputs else np.empty((0, 0))
        )
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict):
        # By name: objects of JSON with the same keys may list them in any order.
        names = _record_names(inputs)
        return [[row.get(name) for name in names] for row in inputs]
    if isinstance(inputs, (np.ndarray, list, tuple)):
        return inputs
    # scipy's sparse matrices
    if hasattr(inputs, "toarray"):
        if not item.sparse:
            raise InputMismatch(
                "this model doesn't answer a sparse matrix as it answers the same numbers in a dense one; "
                "pass matrix.toarray() for its zeros to be read as zeros"
            )
        return inputs.toarray()
    raise _unknown(inputs)


def _side_by_side(columns: dict[Any, Array]) -> Array:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"column {name!r}: {length}" for name, length in lengths.items())
        raise InputMismatch(f"all columns must have the same number of rows, got {counts}")
    return np.column_stack(list(columns.values()))


def _stacked(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    _check_records(records)
    return {name: [record.get(name) for record in records] for name in records[0]}


def _cells(column: Any, item: Field) -> Any:
    """Return a frame's column as a tensor. Cells that hold lists are reshaped to the tensor's own shape."""
    if not is_series(column):
        return column
    cells = column.tolist()
    shape = [-1 if length is None else length for length in item.shape]
    if not cells:
        raise InputMismatch("the input has no rows")
    array = column.to_numpy() if np.ndim(cells[0]) == 0 else to_array(cells, _tensor_name(item))
    if shape.count(-1) > 1:
        return array
    try:
        laid_out = array.reshape(shape)
    except ValueError:
        laid_out = array
    # Each cell is one row. A cell that is too short must not take values from the next one.
    if len(laid_out) != len(cells) or laid_out.ndim != len(shape):
        raise InputMismatch(f"{_tensor_name(item)} must have the shape {tuple(shape)}, got {array.shape}")
    return laid_out


# -- without a schema -----------------------------------------------------------------------------


def without_schema(inputs: Any, model_inputs: Sequence[Input]) -> list[Array]:
    """
    Return an array for each of the model's inputs: by name if the container has names, otherwise by position.

    The arrays keep their types and shapes. Raise InputMismatch.
    """
    if is_series(inputs):
        inputs = inputs.to_frame()
    names = [item.name for item in model_inputs]
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict):
        inputs = _stacked(inputs)
    if is_frame(inputs) and len(names) > 1:
        inputs = {name: inputs[name].to_numpy() for name in inputs.columns}
    if isinstance(inputs, dict):
        return _by_name(inputs, names)
    if is_frame(inputs):
        return [inputs.to_numpy()]
    if len(names) == 1:
        return [_single(inputs)]
    if isinstance(inputs, (list, tuple)) and len(inputs) == len(names):
        return [to_array(value, f"tensor {name!r}") for value, name in zip(inputs, names, strict=True)]
    if isinstance(inputs, (list, tuple, np.ndarray)):
        raise InputMismatch(f"the model takes {len(names)} tensors ({', '.join(names)}); pass a dict of arrays")
    raise _unknown(inputs)


def _single(inputs: Any) -> Array:
    if isinstance(inputs, (np.ndarray, list, tuple)):
        return to_array(inputs, "the input")
    if hasattr(inputs, "toarray"):
        dense: Array = inputs.toarray()
        return dense
    raise _unknown(inputs)


def _by_name(inputs: dict[Any, Any], names: list[str]) -> list[Array]:
    missing = [name for name in names if name not in inputs]
    # The columns of a frame, for a model that takes them as one matrix.
    if missing and len(names) == 1 and inputs and all(_rank(column) == 1 for column in inputs.values()):
        return [_side_by_side({name: to_array(column, f"column {name!r}") for name, column in inputs.items()})]
    if missing:
        raise InputMismatch(
            f"tensor {missing[0]!r} is missing; the model takes {', '.join(names)}, but "
            f"the input has {', '.join(map(repr, inputs)) or 'none'}"
        )
    _warn_of_extra([name for name in inputs if name not in names])
    return [to_array(inputs[name], f"tensor {name!r}") for name in names]


def _unknown(inputs: Any) -> InputMismatch:
    return InputMismatch(
        f"predict can't read a {type(inputs).__name__}; "
        "pass a DataFrame, a Series, an array, a dict of arrays, or a list"
    )
