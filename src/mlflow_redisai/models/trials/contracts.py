"""
Which values a model accepts, asked of the model itself: it is given each kind of value in one row of answered rows.

Most estimators raise an error for NaN or infinity, and an encoder may for a category that it hasn't seen. A graph would
compute with them. What the model refuses goes into the schema's fields, so that a deployment refuses the same rows.

Invariant: a value counts as accepted only if the model has answered rows that contain it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.trials.splitting import rows_at, rows_in
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.fields import is_frame, take_columns, take_tensors
from redisai_engine.codec.mapping import Field, Known, Missing, Schema
from redisai_engine.codec.values import Array
from redisai_engine.protocol import dtypes

# The values that encoders know, by the position of the column.
Categories = Mapping[int, Array]

# The largest number of columns, and of categories of a column, that are tried one by one: each try runs the model.
_SINGLE_TRIES = 200

# How often the model is asked about one kind of value. A model that refuses it in each of many columns is asked about
# each. That is done for what users have, such as gaps, and not for infinity or for more columns.
_MOST_CALLS = 2 * _SINGLE_TRIES
_FEW_CALLS = 32

# Text that no model has seen. Several, because XGBoost raises an error for some of the categories that it doesn't know.
_UNKNOWN_TEXTS = ("\ue001unknown", "", "A", "zzz")

# The marks of missing text.
_MISSING: dict[Missing, Any] = {"None": None, "NaN": np.nan}

# Low numbers, the lowest first. Logarithms and roots become NaN or infinite there, which the next step refuses.
_LOW = (-1e6, -1.0, -0.5, 0.0)

# Numbers by which the largest that a model accepts is found. Trees read float32, and a scaled number may overflow. So
# a contract may refuse enormous numbers that the model would answer.
_SIZES = (float(np.finfo(np.float64).max), 1e300, float(np.finfo(np.float32).max), 1e30, 1e20, 1e15, 1e10)

# How closely the largest number is found where the model refuses all of these, and in how many fields one by one.
_PRECISION = 1e-3
_FEW_BISECTED = 8


@dataclass(frozen=True)
class _Model:
    """Rows that the model answers, and whether it answers others."""

    schema: Schema
    rows: Any
    answers: Callable[[Any], bool]
    # Whether the model answers a single row, so that it needn't be asked with all.
    alone: bool = False

    def accepts(self, fields: Iterable[int], values: Sequence[Any]) -> bool:
        """Return whether the model answers with all of `values` in the first rows of all these fields."""
        count = min(len(values), rows_in(self.rows))
        rows = rows_at(self.rows, np.arange(count)) if self.alone else self.rows
        return self.answers(replaced(self.schema, rows, fields, values))

    def accepting(self, fields: Sequence[int], values: Sequence[Any], most: int = _MOST_CALLS) -> set[int]:
        """
        Return the fields in which the model accepts all of `values`.

        Those that it accepts together need no single tries: the next ones are asked in groups that double where it
        accepts and halve where it refuses. After `most` calls, the rest count as refusing.
        """
        accepted: set[int] = set()
        pending, size = list(fields), len(fields)
        for _ in range(most if len(fields) <= _SINGLE_TRIES else min(most, _FEW_CALLS)):
            if not pending:
                break
            group = pending[:size]
            takes = self.accepts(group, values)
            if takes:
                accepted.update(group)
            if takes or len(group) == 1:
                pending = pending[len(group) :]
            size = 2 * len(group) if takes else max(1, len(group) // 2)
        return accepted

    def those(self, wanted: Callable[[Field], bool]) -> list[int]:
        return [index for index, item in enumerate(self.schema.fields) if item.used and wanted(item)]


def learned(
    schema: Schema, rows: Any, answers: Callable[[Any], bool], categories: Categories, what: str = "the model"
) -> Schema:
    """
    Return the schema with the contract of each field: the values that the model accepts.

    `answers` returns whether the model answers rows. Raise NotConvertible if the model refuses values in a way that no
    contract expresses; `what` names the model.
    """
    filled = without_gaps(schema, rows)
    # A model that fails even without gaps shows nothing about them.
    if not answers(filled):
        return schema
    model = _Model(schema, filled, answers, alone=answers(rows_at(filled, np.arange(1))))
    fields = list(schema.fields)
    for learn in (_numbers, _missing_text):
        fields = learn(model, fields)
    return replace(schema, fields=tuple(_known(model, fields, categories, what)))


def with_missing_text(schema: Schema, rows: Any) -> list[Any]:
    """Return rows with each mark of missing text in the columns that may have it."""
    found = []
    for mark, value in _MISSING.items():
        chosen = [index for index, item in enumerate(schema.fields) if item.used and mark in item.missing]
        if chosen:
            found.append(replaced(schema, rows, chosen, [value]))
    return found


def check_refusals(schema: Schema, inputs: Any, answers: Callable[[Any], bool], what: str = "the model") -> None:
    """Raise NotConvertible if the model refuses rows that the schema's contract would let through."""
    if answers(inputs):
        return
    passed = [row for row in range(rows_in(inputs)) if passes(schema, rows_at(inputs, np.array([row])))]
    if not passed or answers(rows_at(inputs, np.array(passed))):
        return
    for row in passed[:_SINGLE_TRIES]:
        alone = rows_at(inputs, np.array([row]))
        if not answers(alone):
            raise NotConvertible(
                f"{what} refuses the row {_shown(alone)}, and a deployment can't refuse it too: no single column is at "
                "fault in a way that it could check"
            )


def without_missing_text(schema: Schema) -> Schema:
    """Return the schema with a contract that refuses missing text."""
    return replace(schema, fields=tuple(replace(item, missing=()) for item in schema.fields))


def passes(schema: Schema, row: Any) -> bool:
    """Return whether rows fit the schema and the contracts of its fields."""
    try:
        (take_columns if schema.kind == "columns" else take_tensors)(row, schema)
    except InputMismatch:
        return False
    return True


def _shown(row: Any) -> str:
    listed = row.to_dict("records")[0] if is_frame(row) else row
    return f"{listed!s:.200}"


def without_gaps(schema: Schema, rows: Any) -> Any:
    """Return a copy of rows with 0 for every number that isn't finite."""
    return changed(schema, rows, range(len(schema.fields)), _fill)


def replaced(schema: Schema, rows: Any, fields: Iterable[int], values: Sequence[Any]) -> Any:
    """Return a copy of rows with one of `values` in each of the first rows of these fields."""
    return _with_cells(schema, rows, dict.fromkeys(fields, values))


def changed(schema: Schema, rows: Any, fields: Iterable[int], change: Callable[[Array], Array]) -> Any:
    """Return a copy of rows in which `change` was applied to a copy of the values of some fields."""
    return _changed(schema, rows, fields, lambda _, values: change(values))


def _with_cells(schema: Schema, rows: Any, cells: Mapping[int, Sequence[Any]]) -> Any:
    """Return a copy of rows with each field's own values in its first rows."""

    def put(index: int, array: Array) -> Array:
        for row, value in enumerate(cells[index][: len(array)]):
            array[row] = value
        return array

    return _changed(schema, rows, cells, put)


def _changed(schema: Schema, rows: Any, fields: Iterable[int], change: Callable[[int, Array], Array]) -> Any:
    if schema.kind == "tensors" and not schema.named:
        return change(0, rows.copy())
    names = list(rows)
    columns = {name: rows[name] for name in names}
    for index in fields:
        values = change(index, np.array(columns[names[index]]))
        columns[names[index]] = _cells(values, rows) if is_frame(rows) else values
    if not is_frame(rows):
        return columns
    import pandas as pd

    # Made once: each column that is put into a frame would cost as much as all.
    return pd.DataFrame(columns, index=rows.index)


def _cells(values: Array, frame: Any) -> Any:
    """Return the values of a frame's column. As objects, because pandas 3 makes NaN of None in a column of text."""
    import pandas as pd

    return pd.Series(values, index=frame.index, dtype=values.dtype)


def _fill(values: Array) -> Array:
    if values.dtype.kind == "f":
        values[~np.isfinite(values)] = 0.0
    return values


# -- numbers and missing text ---------------------------------------------------------------------


def _numbers(model: _Model, fields: list[Field]) -> list[Field]:
    numbers = model.those(lambda item: item.dtype.is_float)
    gaps = model.accepting(numbers, [np.nan])
    # No estimator is known that takes infinity and refuses NaN.
    infinite = model.accepting(sorted(gaps), [np.inf, -np.inf], _FEW_CALLS)
    least = _least(model)
    largest = _largest(model, numbers, least)
    for index, size in _one_sided(model, largest, least).items():
        least[index] = -largest.pop(index)
        if size < _limit_of(fields[index]):
            largest[index] = size
    bounded = [replace(item, least=least.get(index)) for index, item in enumerate(fields)]
    return [
        replace(item, gaps=index in gaps, infinite=index in infinite, largest=largest.get(index))
        if index in numbers
        else item
        for index, item in enumerate(bounded)
    ]


def _one_sided(model: _Model, largest: Mapping[int, float], least: Mapping[int, float]) -> dict[int, float]:
    """Return the largest positive number that fields accept, for those in which only negative numbers are limited."""
    found = {}
    for index, size in largest.items() if len(largest) <= _FEW_BISECTED else ():
        larger = [each for each in _SIZES if size < each <= _limit_of(model.schema.fields[index])]
        accepted = next((each for each in larger if model.accepts([index], [each])), None)
        # Columns may be refused together that are accepted one by one.
        if index not in least and accepted is not None and not model.accepts([index], [-accepted]):
            found[index] = accepted
    return found


def _least(model: _Model) -> dict[int, float]:
    """Return the least number that the model accepts, for the fields in which it refuses low ones: a logarithm's."""
    alone = model.schema.kind == "columns" or not model.schema.named
    numbers = model.those(lambda item: alone and item.dtype.numpy.kind in "if")
    accepting = model.accepting(numbers, _LOW)
    refusing = [index for index in numbers if index not in accepting][:_SINGLE_TRIES]
    found = {index: _bisected(model, index) for index in refusing}
    return {index: least for index, least in found.items() if least is not None}


def _bisected(model: _Model, index: int) -> float | None:
    """Return the least number that a field accepts; None if it refuses others than the low ones."""
    values = model.rows if isinstance(model.rows, np.ndarray) else np.array(model.rows[list(model.rows)[index]])
    accepted, refused = values.min(), values.dtype.type(_LOW[0])
    # All columns of a matrix have one contract, which a column that has low numbers rules out.
    if refused >= accepted or model.accepts([index], [refused]) or not model.accepts([index], [accepted]):
        return None
    while (middle := _between(refused, accepted)) is not None:
        if model.accepts([index], [middle]):
            accepted = middle
        else:
            refused = middle
    return float(accepted)


def _between(low: Any, high: Any) -> Any:
    """Return a number halfway between two of one type, as their bits are ordered, or None if there is none."""
    if low.dtype.kind == "i":
        middle = (int(low) + int(high)) // 2
        return low.dtype.type(middle) if int(low) < middle else None
    middle = (_rank(low) + _rank(high)) // 2
    return _ranked(middle, low.dtype.type) if _rank(low) < middle else None


def _rank(number: Any) -> int:
    """Return the position of a float among all of its type, 0 for zero."""
    bits = int(np.abs(number).view(f"u{number.dtype.itemsize}"))
    return -bits if number < 0 else bits


def _ranked(rank: int, kind: Any) -> Any:
    number = np.array(abs(rank), f"u{np.dtype(kind).itemsize}").view(kind)[()]
    return -number if rank < 0 else number


def _largest(model: _Model, numbers: list[int], least: Mapping[int, float]) -> dict[int, float]:
    """Return the largest number that the model accepts, for the fields in which that isn't their type's largest."""
    if not numbers:
        return {}
    limits = [_limit_of(model.schema.fields[index]) for index in numbers]
    sizes = [size for size in _SIZES if size <= max(limits)]
    for size in sizes:
        if _accepts_up_to(model, numbers, size, least):
            return {} if size == sizes[0] else _largest_each(model, numbers, sizes, size, least)
    single = numbers[:_SINGLE_TRIES] if len(numbers) > 1 else []
    taking = [index for index in single if _accepts_up_to(model, [index], sizes[-1], least)]
    refusing = [index for index in numbers if index not in taking]
    # Each alone, and not all together.
    if not refusing:
        return dict.fromkeys(numbers, _largest_in(model.schema, model.rows, numbers))
    parts = [[index] for index in refusing] if len(refusing) <= _FEW_BISECTED else [refusing]
    found = {index: bound for part in parts for index, bound in _largest_near(model, part, sizes[-1], least).items()}
    return {**found, **_largest(model, taking, least)}


def _largest_each(
    model: _Model, numbers: list[int], sizes: Sequence[float], common: float, least: Mapping[int, float]
) -> dict[int, float]:
    """
    Return what each of a few fields accepts, if the model takes all of that at once; else `common` for all of them.

    A power of one column may overflow where that of another is far from it.
    """
    each = dict.fromkeys(numbers, common)
    if len(numbers) > _FEW_BISECTED:
        return each
    for index in numbers:
        each[index] = next(size for size in sizes if size == common or _accepts_up_to(model, [index], size, least))
    if not _accepts_sizes(model, each, least):
        return dict.fromkeys(numbers, common)
    return {index: size for index, size in each.items() if size < _limit_of(model.schema.fields[index])}


def _largest_near(model: _Model, part: list[int], refused: float, least: Mapping[int, float]) -> dict[int, float]:
    """Return what the model accepts below `refused` in some fields at once, an exponential's arguments for instance."""
    accepted = _largest_in(model.schema, model.rows, part)
    while accepted > 0 and refused > accepted * (1 + _PRECISION):
        middle = float(np.sqrt(accepted * refused))
        if _accepts_up_to(model, part, middle, least):
            accepted = middle
        else:
            refused = middle
    return dict.fromkeys(part, accepted)


def _accepts_up_to(model: _Model, numbers: list[int], size: float, least: Mapping[int, float]) -> bool:
    """Return whether the model accepts numbers of this size in all these fields, of both signs if it may."""
    return _accepts_sizes(model, dict.fromkeys(numbers, size), least)


def _accepts_sizes(model: _Model, sizes: Mapping[int, float], least: Mapping[int, float]) -> bool:
    """Return whether the model accepts, at once, numbers of each field's size, of both signs if it may."""
    # As numbers of float32 columns next to those of float64, it may become infinite.
    narrow = {index: min(size, _limit_of(model.schema.fields[index])) for index, size in sizes.items()}
    cells = {index: [value, value if index in least else -value] for index, value in narrow.items()}
    return model.answers(_with_cells(model.schema, model.rows, cells))


def _limit_of(item: Field) -> float:
    return float(np.finfo(item.dtype.numpy).max)


def _largest_in(schema: Schema, rows: Any, fields: Iterable[int]) -> float:
    """Return the largest number in some fields of rows."""
    found = [0.0]

    def look(array: Array) -> Array:
        if array.dtype.kind == "f" and array.size:
            found.append(float(np.abs(array).max()))
        return array

    changed(schema, rows, fields, look)
    return max(found)


def _missing_text(model: _Model, fields: list[Field]) -> list[Field]:
    # A frame's cells are objects. numpy's own text can't be missing.
    texts = model.those(lambda item: item.dtype.is_string) if model.schema.kind == "columns" else []
    accepted = {mark: model.accepting(texts, [value]) for mark, value in _MISSING.items()}
    null = _null()
    return [
        replace(item, missing=tuple(mark for mark, taken in accepted.items() if index in taken), null=null)
        if index in texts
        else item
        for index, item in enumerate(fields)
    ]


def _null() -> Missing:
    """Return what pandas, and so pyfunc, makes of None in a list of text."""
    import pandas as pd

    return "None" if pd.DataFrame({"text": ["", None]})["text"][1] is None else "NaN"


# -- known values ---------------------------------------------------------------------------------


def _known(model: _Model, fields: list[Field], categories: Categories, what: str) -> list[Field]:
    known = list(fields)
    for index in _refusing_unknown(model, categories):
        item = fields[index]
        values = categories.get(index) if model.schema.kind == "columns" else None
        if values is None or not len(values):
            column = "its input" if item.name is None else f"column {item.label!r}"
            raise NotConvertible(
                f"{what} refuses some values of {column} and its encoders don't say which, so a deployment can't "
                "refuse them too; use an encoder with handle_unknown='ignore' or 'use_encoded_value'"
            )
        known[index] = replace(item, known=_answered(model, index, _plain(values, item)))
    return known


def _refusing_unknown(model: _Model, categories: Categories) -> list[int]:
    """Return the fields in which the model refuses values that it hasn't seen."""
    texts = model.those(lambda item: item.dtype.is_string)
    accepting = set(texts)
    for text in _UNKNOWN_TEXTS:
        accepting &= model.accepting(sorted(accepting), [text])
    refusing = [index for index in texts if index not in accepting or not _accepts_more(model, index, categories)]
    for index in model.those(lambda item: not item.dtype.is_string and item.dtype is not dtypes.BOOL):
        values = _numbers_among(model.schema, index, categories)
        if values is not None and not model.accepts([index], [_beyond(values, model.schema.fields[index])]):
            refusing.append(index)
    return sorted(refusing)


def _accepts_more(model: _Model, index: int, categories: Categories) -> bool:
    """Return whether a field of text accepts a known category with a space behind it."""
    known = categories.get(index)
    return known is None or not len(known) or model.accepts([index], [f"{known[0]} "])


def _numbers_among(schema: Schema, index: int, categories: Categories) -> Array | None:
    """Return the categories of a column of numbers, or those of all columns for a matrix."""
    found = categories.get(index)
    if schema.kind == "tensors" and categories:
        found = np.concatenate([np.asarray(values).ravel() for values in categories.values()])
    return None if found is None or not len(found) or found.dtype.kind not in "iuf" else found


def _beyond(values: Array, item: Field) -> Any:
    return item.dtype.numpy.type(np.max(values) + 1)


def _plain(values: Array, item: Field) -> tuple[Known, ...]:
    if item.dtype.is_string:
        return tuple(str(value) for value in values.tolist())
    return tuple(item.dtype.numpy.type(value).item() for value in values.tolist())


def _answered(model: _Model, index: int, values: tuple[Known, ...]) -> tuple[Known, ...]:
    """Return those of the values that the model answers. Another step may read the same column and know fewer."""
    size = rows_in(model.rows)
    portions = [values[start : start + size] for start in range(0, len(values), size)]
    if all(model.accepts([index], portion) for portion in portions):
        return values
    return tuple(value for value in values[:_SINGLE_TRIES] if model.accepts([index], [value]))
