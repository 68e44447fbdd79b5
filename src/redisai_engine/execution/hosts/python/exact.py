"""
Frames that are exactly what a model's signature says: pyfunc's `predict` without its work on the schema.

A part of `program.py`, which loads this file by its path, in any Python from 3.9.

Theory of operation. `predict` takes each frame apart and puts it together again, to give it the columns, order and
types of the signature. For a frame that has these already, the outcome is the same frame. What it costs is more than
most models take for a row, so such a frame is made right away, by a recipe that follows from its parcel's text, and
given to a *twin* of the pyfunc model, which has no signature, so that `predict` has no schema to enforce. The rest of
`predict` is MLflow's own in both.

Nothing is taken for granted about a version of MLflow or pandas. The first time, both ways are gone up to the model's
own function, and what this would get must be the same. If it isn't, or anything is unusual, nothing is spared.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_PLAIN = ("int32", "int64", "float32", "float64")  # types that MLflow leaves as they are, whatever the values
_MOST_KEPT, _LONGEST_KEPT = 256, 4096  # recipes, bytes of the text of one
_Dtypes = dict[str, Any]  # by the columns' names


class Recipe(NamedTuple):
    """How a frame is made: of one array for all columns, or of one for each. `sources` are (dtype, shape, offset)."""

    is_matrix: bool
    sources: list[tuple[Any, tuple[int, ...], int]]
    length: int


class ExactFrames:
    """Answers parcels whose frames a pyfunc model's signature describes exactly."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._dtypes = _plain_columns(model)
        self._is_proved: dict[tuple[bool, bool], bool] = {}  # by whether it is one matrix, and one row
        self._recipes: dict[bytes, Recipe | None] = {}
        if self._dtypes:
            self._pandas = importlib.import_module("pandas")
            self._columns = self._pandas.DataFrame({name: [0] for name in self._dtypes}).columns
            self._is_fixed = _is_fixed(self._columns)
            self._twin = _without_signature(model)
            self.predict: Callable[[Any], Any] = self._twin.predict

    def frame(self, parcel: Any) -> Any:
        """Return what `predict` may be called with, or None if this isn't such a parcel."""
        if not self._dtypes:
            return None
        recipe = self._recipe(parcel)
        return None if recipe is None or not self._may_use(recipe, parcel) else self._made(recipe, parcel)

    def _recipe(self, parcel: Any) -> Recipe | None:
        end = 12 + int.from_bytes(parcel[8:12].tobytes(), "little")  # see `parcels`
        if end > _LONGEST_KEPT:
            return None
        text = parcel[12:end].tobytes()
        try:
            recipe = self._recipes[text]
        except KeyError:
            if len(self._recipes) >= _MOST_KEPT:
                self._recipes.clear()
            recipe = self._recipes[text] = _recipe_of(text, end, self._dtypes)
        return recipe if recipe is not None and recipe.length == len(parcel) else None

    def _made(self, recipe: Recipe, parcel: Any) -> Any:
        # Copies: a model may write to what it gets.
        arrays = [np.ndarray(shape, dtype, parcel, offset).copy() for dtype, shape, offset in recipe.sources]
        if recipe.is_matrix:
            # A view keeps what pandas has found out about the names, which takes a tenth of a small model's time.
            columns = self._columns.view() if self._is_fixed else self._columns.copy(deep=True)
            return self._pandas.DataFrame(arrays[0].T, columns=columns, copy=False)
        return self._pandas.DataFrame(dict(zip(self._dtypes, arrays)))

    def _may_use(self, recipe: Recipe, parcel: Any) -> bool:
        """Return whether such a frame is what the model would get from MLflow's whole `predict`."""
        kind = recipe.is_matrix, recipe.sources[0][1][-1] == 1
        proved = self._is_proved.get(kind)
        if proved is None:
            try:
                proved = self._proved(self._made(recipe, parcel))
            except Exception:  # of an MLflow that works otherwise
                proved = False
            self._is_proved[kind] = proved
        return proved

    def _proved(self, frame: Any) -> bool:
        usual, usual_params = _seen(self._model, frame.copy())
        spared, spared_params = _seen(self._twin, frame)
        return usual_params == spared_params and _are_same(usual, spared)


def _plain_columns(model: Any) -> _Dtypes:
    """Return the types of the signature's columns, or nothing if some may be changed, or left out."""
    schema = model.metadata.get_input_schema()
    if schema is None or schema.is_tensor_spec():
        return {}
    found = {}
    for spec in schema.inputs:
        dtype = spec.type.to_numpy() if hasattr(spec.type, "to_numpy") else None
        is_required = getattr(spec, "required", True) and not getattr(spec, "optional", False)
        if type(spec.name) is not str or not is_required or dtype is None or np.dtype(dtype).name not in _PLAIN:
            return {}
        found[spec.name] = np.dtype(dtype)
    return found if len(found) == len(schema.inputs) else {}


def _is_fixed(columns: Any) -> bool:
    """Return whether no model can change the names in an index itself. Versions of pandas before 3 let it."""
    probe = columns.copy(deep=True)
    for values in (probe.values, probe.array, probe.to_numpy()):
        with contextlib.suppress(ValueError, TypeError):
            values[0] = "changed"
    return list(probe) == list(columns)


def _without_signature(model: Any) -> Any:
    twin, about = copy.copy(model), copy.copy(model.metadata)
    about.signature = None
    twin._model_meta = about
    return twin


def _seen(model: Any, frame: Any) -> tuple[Any, Any]:
    """Return what the model's own function would be called with."""
    probe = copy.copy(model)
    probe._predict_fn = lambda data, params=None: (data, params)
    found: tuple[Any, Any] = probe.predict(frame)
    return found


def _are_same(one: Any, other: Any) -> bool:
    """Return whether two frames are the same in all that a model can tell."""
    return (
        type(one) is type(other)
        and one.equals(other)
        and list(one.dtypes) == list(other.dtypes)
        and one.to_numpy().flags.f_contiguous == other.to_numpy().flags.f_contiguous
        and one.attrs == other.attrs
        and all(
            type(axis) is type(same) and axis.dtype == same.dtype and axis.equals(same) and axis.name == same.name
            for axis, same in zip(one.axes, other.axes)
        )
    )


def _recipe_of(text: bytes, end: int, dtypes: _Dtypes) -> Recipe | None:
    """Return how the frame of a parcel is made, or None if it isn't one with just these columns."""
    try:
        document = json.loads(str(text, "utf-8"))
        value, rows = document["value"], document["value"]["rows"]
        columns = value["columns"]
        is_bare = value["!"] == "frame" and value["index"] is None and document["params"] is None
        is_named = columns["!"] == "index" and columns["name"] is None and columns["every"] is None
        if not is_bare or not is_named or _names(columns["array"]) != list(dtypes) or type(rows) is not int or rows < 1:
            return None
        wanted = list(dtypes.values())
        is_matrix = "matrix" in value
        if is_matrix and len(set(wanted)) == 1:
            return _laid_out([value["matrix"]], [(wanted[0], (len(wanted), rows))], end, is_matrix=True)
        return None if is_matrix else _laid_out(value["arrays"], [(each, (rows,)) for each in wanted], end)
    except (ValueError, KeyError, TypeError, RecursionError):  # `parcels` says what is wrong with it
        return None


def _names(node: Any) -> Any:
    items = node["items"]
    is_flat = node["!"] == "strings" or (node["!"] == "objects" and node["shape"] == [len(items)])
    return items if is_flat else None


def _laid_out(
    nodes: Any, wanted: list[tuple[Any, tuple[int, ...]]], end: int, *, is_matrix: bool = False
) -> Recipe | None:
    """Return where the arrays are in a parcel, if they have the types and shapes that are wanted."""
    sources = []
    for node, (dtype, shape) in zip(nodes, wanted):
        if node["!"] != "array" or node["dtype"] != dtype.str or node["shape"] != list(shape):
            return None
        end += -end % 8
        sources.append((dtype, shape, end))
        end += dtype.itemsize * math.prod(shape)
    return Recipe(is_matrix, sources, end) if len(nodes) == len(wanted) else None
