"""Frames that need no schema work: what the model gets is the same as by the whole of pyfunc's predict, or all of it is
gone through."""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PyFuncModel
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from redisai_engine.execution.hosts.python.exact import ExactFrames
from redisai_engine.protocol import parcels

NUMPY = {"integer": "int32", "long": "int64", "float": "float32", "double": "float64"}


class Recorder:
    """Answers what it is called with, and spoils it afterwards, as a model may."""

    def predict(self, data: Any, params: Any = None) -> Any:
        seen = data.copy()
        data.iloc[:, :] = 0
        data.columns = [f"spoiled {number}" for number in range(data.shape[1])]
        return seen, params


def model_of(*specs: ColSpec, params: ParamSchema | None = None) -> PyFuncModel:
    signature = ModelSignature(inputs=Schema(list(specs)), params=params)
    about = Model(flavors={"python_function": {"loader_module": "none"}}, signature=signature)
    return PyFuncModel(about, Recorder())


def parcel_of(frame: Any, params: dict[str, Any] | None = None) -> Any:
    return np.frombuffer(parcels.pack(frame, params), "u1")


def assert_as_usual(model: PyFuncModel, exact: ExactFrames, frame: pd.DataFrame) -> bool:
    """Return whether the work on the schema was spared. If so, the model must have got the same."""
    made = exact.frame(parcel_of(frame))
    if made is None:
        return False
    spared, usual = exact.predict(made), model.predict(frame.copy())
    pd.testing.assert_frame_equal(spared[0], usual[0], check_column_type="exact", check_index_type="exact")
    assert spared[1] == usual[1]
    assert spared[0].to_numpy().tobytes("A") == usual[0].to_numpy().tobytes("A")
    return True


@functools.cache
def known(types: tuple[str, ...]) -> tuple[PyFuncModel, ExactFrames]:
    model = model_of(*(ColSpec(kind, f"column {number}") for number, kind in enumerate(types)))
    return model, ExactFrames(model)


TYPES = [*itertools.product(NUMPY, repeat=2), ("double",), ("float",) * 5]


@given(types=st.sampled_from(TYPES), rows=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_frame_as_the_signature_says_is_passed_on_as_pyfunc_does(
    types: tuple[str, ...], rows: int, seed: int
) -> None:
    model, exact = known(types)
    random = np.random.default_rng(seed)
    columns = {
        f"column {number}": random.integers(-(2**31), 2**31, rows).view("f8").astype(NUMPY[kind])
        if kind in ("float", "double")
        else random.integers(-(2**31), 2**31, rows).astype(NUMPY[kind])
        for number, kind in enumerate(types)
    }
    assert assert_as_usual(model, exact, pd.DataFrame(columns))


DOUBLES = (ColSpec("double", "a"), ColSpec("double", "b"))
PLAIN = pd.DataFrame({"a": [1.0, np.nan, -0.0], "b": [4.0, np.inf, 6.0]})
UNUSUAL = {
    "another order": PLAIN[["b", "a"]],
    "a column more": PLAIN.assign(c=1.0),
    "a column less": PLAIN[["a"]],
    "a column of another type": PLAIN.assign(b=np.array([1, 2, 3], "float32")),
    "a column of objects": PLAIN.assign(b=np.array([1.0, 2.0, 3.0], object)),
    "an index": PLAIN.set_axis([5, 6, 7]),
    "text for an index": PLAIN.set_axis(["x", "y", "z"]),
    "a name of the columns": PLAIN.rename_axis(columns="names"),
    "a name of the index": PLAIN.rename_axis(index="rows"),
    "the same column twice": pd.DataFrame(PLAIN.to_numpy(), columns=["a", "a"]),
    "no rows": PLAIN[:0],
    "columns in two levels": pd.DataFrame(PLAIN.to_numpy(), columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "numbers for columns": pd.DataFrame(PLAIN.to_numpy()),
}


@pytest.mark.parametrize("frame", UNUSUAL.values(), ids=UNUSUAL)
def test_any_other_frame_goes_through_all_of_pyfunc(frame: pd.DataFrame) -> None:
    model = model_of(*DOUBLES)
    exact = ExactFrames(model)
    assert assert_as_usual(model, exact, PLAIN)
    assert exact.frame(parcel_of(frame)) is None
    assert assert_as_usual(model, exact, PLAIN), "afterwards as before"


@pytest.mark.parametrize("value", [PLAIN["a"], PLAIN.to_numpy(), {"a": [1.0], "b": [2.0]}, "text", [1, 2], None])
def test_what_is_no_frame_goes_through_all_of_pyfunc(value: Any) -> None:
    assert ExactFrames(model_of(*DOUBLES)).frame(parcel_of(value)) is None


def test_params_go_through_all_of_pyfunc() -> None:
    schema = ParamSchema([ParamSpec("factor", "double", 2.0)])
    assert ExactFrames(model_of(*DOUBLES)).frame(parcel_of(PLAIN, {"factor": 3.0})) is None
    assert ExactFrames(model_of(*DOUBLES, params=schema)).frame(parcel_of(PLAIN)) is None


SIGNATURES = {
    "optional": (ColSpec("double", "a"), ColSpec("double", "b", required=False)),
    "text": (ColSpec("double", "a"), ColSpec("string", "b")),
    "times": (ColSpec("double", "a"), ColSpec("datetime", "b")),
    "unnamed": (ColSpec("double"), ColSpec("double")),
}


@pytest.mark.parametrize("specs", SIGNATURES.values(), ids=SIGNATURES)
def test_other_signatures_go_through_all_of_pyfunc(specs: tuple[ColSpec, ...]) -> None:
    assert ExactFrames(model_of(*specs)).frame(parcel_of(PLAIN)) is None


def test_a_damaged_parcel_is_left_to_those_who_say_what_is_wrong() -> None:
    exact = ExactFrames(model_of(*DOUBLES))
    whole = parcels.pack(PLAIN)
    assert exact.frame(np.frombuffer(whole, "u1")) is not None
    for broken in (whole[:-1], whole + b"\0", whole[:8], whole[:11], whole[:40], whole.replace(b"rows", b"ro\xffs")):
        assert exact.frame(np.frombuffer(broken, "u1")) is None


class Changing(PyFuncModel):
    """Stands for a version of MLflow whose predict changes what it gets, whatever the signature says."""

    def predict(self, data: Any, params: Any = None) -> Any:
        frame = data if self.metadata.get_input_schema() is None else data.assign(more=1)
        return self._predict_fn(frame, params)


def test_nothing_is_spared_where_mlflow_does_more_than_check() -> None:
    usual = model_of(*DOUBLES)
    assert ExactFrames(Changing(usual.metadata, Recorder())).frame(parcel_of(PLAIN)) is None


def test_a_model_cannot_change_the_columns_of_the_next_frame() -> None:
    exact = ExactFrames(model_of(*DOUBLES))
    for _ in range(2):
        frame = exact.frame(parcel_of(PLAIN))
        assert list(frame.columns) == ["a", "b"]
        assert frame.columns.name is None
        for values in (frame.columns.values, frame.columns.array, frame.columns.to_numpy()):
            with contextlib.suppress(ValueError):
                values[0] = "changed"
        frame.columns.name = "changed"
        frame["a"] = frame.pop("b")


def test_few_recipes_are_kept() -> None:
    model = model_of(*DOUBLES)
    exact = ExactFrames(model)
    for rows in range(1, 400):
        assert exact.frame(parcel_of(pd.DataFrame(np.ones((rows, 2)), columns=["a", "b"]))) is not None
    assert len(exact._recipes) <= 256
