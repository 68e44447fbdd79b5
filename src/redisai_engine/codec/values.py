"""
Converts the values of one column or tensor to the element type that the model takes. Knows no frames.
Also checks what the model accepts of them.

The rule: a value is converted if nothing is lost. Integers become floating point if each is exact in it. Wider integers
become narrower if each fits. Floating point takes the requested width, because JSON has only one. Everything else is
refused, as `mlflow.pyfunc` refuses it: text for numbers, numbers for text, and fractions or gaps for integers.
"""

from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Field, Missing
from redisai_engine.protocol.dtypes import BOOL, DOUBLE, DType

Array = npt.NDArray[Any]

# What pandas.read_json did to text can't be undone, since "001" and "1" both become 1. So it is never guessed.
_TEXT_CURE = (
    "convert it with astype(str), and read JSON with pandas.read_json(..., dtype=False, convert_dates=False), "
    "which otherwise turns digits into numbers and dates into times irreversibly"
)

_NUMBERS = (int, float, decimal.Decimal, np.number)

# What stands for missing text in a tensor of strings, which can hold neither None nor NaN. The graph of a model that
# accepts them knows these texts. Their first character is one that Unicode leaves to private agreement.
MARKS: dict[Missing, str] = {"None": "\ue000None", "NaN": "\ue000NaN"}
_MARKED = frozenset(MARKS.values())

# How many allowed values an error lists.
_SHOWN = 10
_SHOWN_BITS = 400


def fit(values: Array, dtype: DType, what: str, wanted: str) -> Array:
    """
    Return `values` with the element type `dtype` and the same shape. Raise InputMismatch.

    For errors, `what` names the column or tensor ("column 'age'") and `wanted` the type in the user's words ("long").
    """
    if values.dtype == dtype.numpy and not dtype.is_string:
        return values
    if dtype.is_string:
        return _text(values, what, wanted)
    if values.dtype.kind in "OU":
        values = _plain(values, dtype, what, wanted)
        if values.dtype == dtype.numpy:
            return values
    if dtype.is_float:
        return _floats(values, dtype, what, wanted)
    if dtype is BOOL:
        return _booleans(values, what, wanted)
    return _integers(values, dtype, what, wanted)


def check_numbers(values: Array, item: Field, what: str) -> None:
    """
    Raise InputMismatch, which names the first row with a number that the model refuses itself.

    These are NaN, infinities, and numbers that are too large.
    """
    if item.least is not None and (row := _first(low := values < item.least)) is not None:
        raise InputMismatch(
            f"{what} has the value {values[row][low[row]].flat[0]:g} in row {row}, but this model accepts only numbers "
            f"from {item.least!r}"
        )
    if item.largest is not None:
        _check_largest(values, item.largest, what)
    if values.dtype.kind != "f":
        return
    if not item.gaps and (row := _first(np.isnan(values))) is not None:
        raise InputMismatch(_not_accepted(what, row, "is missing (NaN)"))
    if not item.infinite and (row := _first(np.isinf(values))) is not None:
        raise InputMismatch(_not_accepted(what, row, "is infinite"))


def _check_largest(values: Array, largest: float, what: str) -> None:
    if values.dtype.kind in "iu":
        # As integers, because float64 rounds the large ones.
        limits = np.iinfo(values.dtype)
        large = (values > min(int(largest), limits.max)) | (values < max(-int(largest), limits.min))
    elif values.dtype.kind == "f":
        large = np.isfinite(values) & (np.abs(values) > largest)
    else:
        return
    if (row := _first(large)) is not None:
        raise InputMismatch(
            f"{what} has the value {values[row][large[row]].flat[0]:g} in row {row}, but this model accepts only "
            f"numbers from {-largest:g} to {largest:g}"
        )


def check_known(values: Array, item: Field, what: str) -> None:
    """Raise InputMismatch, which names the first row with a value that the model doesn't know and refuses itself."""
    known = item.known
    if known is None:
        return
    flat = values.ravel().tolist()
    unknown = {value for value in set(flat) if value not in known and not _is_mark(value)}
    if unknown:
        index = next(index for index, value in enumerate(flat) if value in unknown)
        row = index // (len(flat) // len(values))
        shown = ", ".join(repr(value) for value in known[:_SHOWN])
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        raise InputMismatch(
            f"{what} has the value {flat[index]!r} in row {row}, which this model doesn't know; "
            f"allowed are {shown}{more}"
        )


def mark_missing(values: Array, missing: tuple[Missing, ...], what: str) -> Array:
    """
    Return a copy of text in which a reserved text stands for each None and NaN that the model accepts.

    Others stay, for `fit` to refuse. Raise InputMismatch for a reserved text among the values.
    """
    if values.dtype.kind != "O" or not missing:
        return values
    marked: Array = values.copy()
    flat = marked.reshape(-1)
    for index, value in enumerate(flat.tolist()):
        if value is None and "None" in missing:
            flat[index] = MARKS["None"]
        elif isinstance(value, float) and np.isnan(value) and "NaN" in missing:
            flat[index] = MARKS["NaN"]
        elif isinstance(value, str) and value in _MARKED:
            raise InputMismatch(f"{what} has the value {value!r}, which is reserved for missing text; use another")
    return marked


def _is_mark(value: Any) -> bool:
    # NaN is unequal to itself. check_numbers decides about it.
    return bool(value != value or (isinstance(value, str) and value in _MARKED))  # noqa: PLR0124


def _first(rows: npt.NDArray[np.bool_]) -> int | None:
    """Return the number of the first row with a true value, or None."""
    return int(np.argwhere(rows)[0][0]) if rows.any() else None


def _not_accepted(what: str, row: int, problem: str) -> str:
    return f"{what} has a value in row {row} that {problem}, which this model doesn't accept; fill it"


def is_missing(value: object) -> bool:
    """Return whether a single value is None, NaN, NaT or pandas.NA."""
    if value is None:
        return True
    # NaN and NaT are unequal to themselves. A comparison with pandas.NA has no truth value.
    try:
        return bool(value != value)  # noqa: PLR0124
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def _floats(values: Array, dtype: DType, what: str, wanted: str) -> Array:
    kind = values.dtype.kind
    if kind == "f":
        with np.errstate(over="ignore"):
            fitted = values.astype(dtype.numpy)
        if np.isinf(fitted).sum() != np.isinf(values).sum():
            raise InputMismatch(f"{what} must be {wanted}, but has numbers that are too large for it")
        return fitted
    if kind in "iu":
        fitted = values.astype(dtype.numpy)
        # Compared as longdouble, which represents every 64-bit integer exactly, so that the check itself rounds
        # nothing.
        inexact = fitted.astype(np.longdouble) != values.astype(np.longdouble)
        if inexact.any():
            raise InputMismatch(f"{what} must be {wanted}, which can't hold {values[inexact].flat[0]} exactly")
        return fitted
    raise _wrong_type(values, what, wanted)


def _integers(values: Array, dtype: DType, what: str, wanted: str) -> Array:
    kind = values.dtype.kind
    if kind in "iu":
        limits = np.iinfo(dtype.numpy)
        if values.size and (int(values.min()) < limits.min or int(values.max()) > limits.max):
            outside = values.max() if int(values.max()) > limits.max else values.min()
            raise InputMismatch(f"{what} must be {wanted} ({limits.min} to {limits.max}), got {outside}")
        return values.astype(dtype.numpy)
    if kind == "f" and np.isnan(values).any():
        row = int(np.argwhere(np.isnan(values))[0][0])
        raise InputMismatch(
            f"{what} must be {wanted}, which has no NaN, but the value in row {row} is missing; fill it, or declare "
            "double in the model's signature"
        )
    raise _wrong_type(values, what, wanted)


def _booleans(values: Array, what: str, wanted: str) -> Array:
    if values.dtype.kind != "b":
        raise _wrong_type(values, what, wanted)
    return values


def _text(values: Array, what: str, wanted: str) -> Array:
    if values.dtype.kind == "U":
        return values.astype(object)
    if values.dtype.kind != "O":
        raise _wrong_type(values, what, wanted)
    elements = values.ravel().tolist()
    # A single pass in C. Nearly all columns end here.
    if set(map(type, elements)) <= {str}:
        return values
    for row, value in enumerate(elements):
        if isinstance(value, str):
            continue
        if is_missing(value):
            raise InputMismatch(
                f"{what} must be {wanted}, but the value in row {row} is missing, which a tensor of strings can't "
                "represent; fill it"
            )
        raise InputMismatch(
            f"{what} must be {wanted}, got {value!r} ({type(value).__name__}) in row {row}; {_TEXT_CURE}"
        )
    return values


def _plain(values: Array, dtype: DType, what: str, wanted: str) -> Array:
    """Return an object array as an array of numbers or booleans. A missing value becomes NaN."""
    elements = values.ravel().tolist()
    kinds = set(map(type, elements))
    # Three shortcuts for columns of a single type.
    if kinds <= {int}:
        return _whole_numbers(elements, what, wanted).reshape(values.shape)
    if kinds <= {float}:
        return np.array(elements, DOUBLE.numpy).reshape(values.shape)
    if kinds <= {bool, np.bool_}:
        return np.array(elements, bool).reshape(values.shape)
    for row, value in enumerate(elements):
        # bool is a subclass of int, but MLflow doesn't take a boolean for a number.
        if isinstance(value, (bool, np.bool_)) or not (isinstance(value, _NUMBERS) or is_missing(value)):
            raise InputMismatch(
                f"{what} must be {wanted}, got {value!r} ({type(value).__name__}) in row {row}{_cure(value, wanted)}"
            )
    if all(isinstance(value, (int, np.integer)) for value in elements):
        return _whole_numbers(elements, what, wanted).reshape(values.shape)
    try:
        numbers = [np.nan if is_missing(value) else float(value) for value in elements]
    except OverflowError:
        raise _too_large(elements, what, wanted) from None
    return np.array(numbers, DOUBLE.numpy).reshape(values.shape)


def _whole_numbers(elements: list[Any], what: str, wanted: str) -> Array:
    try:
        return np.array(elements, np.int64)
    except OverflowError:
        raise _too_large(elements, what, wanted) from None


def _too_large(elements: list[Any], what: str, wanted: str) -> InputMismatch:
    largest = max((value for value in elements if isinstance(value, int)), key=abs)
    return InputMismatch(f"{what} must be {wanted}, got {_shown(largest)}, which is too large for 64 bits")


def _shown(number: int) -> str:
    """Return an integer as text. Python refuses to write out one of more than 4,300 digits, and nobody reads 100."""
    return str(number) if number.bit_length() < _SHOWN_BITS else f"an integer of {number.bit_length()} bits"


def _cure(value: object, wanted: str) -> str:
    if isinstance(value, str):
        return "; pass numbers, not text"
    return f"; every element must be a single {wanted} value"


def _wrong_type(values: Array, what: str, wanted: str) -> InputMismatch:
    got = values.dtype
    if wanted == "string":
        cure = f"; {_TEXT_CURE}"
    elif got.kind == "M":
        cure = "; pandas.read_json turns columns with names like dates into times: read them with convert_dates=False"
    else:
        cure = "; convert it first if that is intended"
    return InputMismatch(f"{what} must be {wanted}, got {got}{cure}")
