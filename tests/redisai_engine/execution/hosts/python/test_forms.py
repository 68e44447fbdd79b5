"""What a Python model gets of tensors, and what becomes of its answers, without a worker around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, Schema, TensorSpec

from redisai_engine.execution.hosts.python import exact, forms
from redisai_engine.protocol import parcels

NUMBERS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
COLUMNS = Schema([ColSpec("double", "a"), ColSpec("long", "b")])
TENSORS = Schema([TensorSpec(np.dtype("float64"), (-1, 2), "x"), TensorSpec(np.dtype("float32"), (-1, 2), "y")])
ONE_TENSOR = Schema([TensorSpec(np.dtype("float32"), (-1, 2))])


class Keeping(PythonModel):
    """Keeps what it gets, and answers with what it is to."""

    got: Any = None
    answer: Any = None

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        Keeping.got = model_input
        return Keeping.answer if Keeping.answer is not None else [0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


def run(
    folder: Path,
    arrays: list[Any],
    *,
    schema: Schema | None = None,
    inputs: Sequence[str] = ("input",),
    outputs: Sequence[str] = ("output",),
    answer: Any = None,
) -> list[Any]:
    """Run a model with a signature on tensors. Return its outputs."""
    signature = None if schema is None else ModelSignature(inputs=schema)
    mlflow.pyfunc.save_model(folder, python_model=Keeping(), signature=signature, pip_requirements=[])
    model = forms.Model(str(folder), {"inputs": list(inputs), "outputs": list(outputs)}, parcels, exact)
    unwrapped = model._predict.__self__.unwrap_python_model()  # type: ignore[attr-defined]  # loaded, so another class
    type(unwrapped).answer = answer
    outputs_of_run = model.run(arrays)
    Keeping.got = type(unwrapped).got
    return outputs_of_run


@pytest.mark.filterwarnings("ignore")
class TestWhatTheModelGets:
    def test_columns_of_one_tensor_become_a_frame_in_the_types_of_the_signature(self, folder: Path) -> None:
        run(folder, [NUMBERS], schema=COLUMNS)

        expected = pd.DataFrame({"a": [1.0, 3.0], "b": [2, 4]})
        pd.testing.assert_frame_equal(Keeping.got, expected)

    def test_several_tensors_are_columns_by_their_names(self, folder: Path) -> None:
        columns = [np.array([5, 6]), np.array([[1.5], [2.5]])]
        run(folder, columns, schema=COLUMNS, inputs=("b", "a"))

        pd.testing.assert_frame_equal(Keeping.got, pd.DataFrame({"a": [1.5, 2.5], "b": [5, 6]}))

    def test_tensors_become_arrays_by_name_or_one_array(self, folder: Path, tmp_path: Path) -> None:
        run(folder, [NUMBERS, NUMBERS], schema=TENSORS, inputs=("x", "y"))
        assert {name: array.dtype.name for name, array in Keeping.got.items()} == {"x": "float64", "y": "float32"}

        run(tmp_path / "one", [NUMBERS], schema=ONE_TENSOR)
        np.testing.assert_array_equal(Keeping.got, NUMBERS)

    def test_without_a_signature_they_are_as_they_came(self, folder: Path, tmp_path: Path) -> None:
        run(folder, [NUMBERS])
        np.testing.assert_array_equal(Keeping.got, NUMBERS)

        run(tmp_path / "two", [NUMBERS, NUMBERS], inputs=("x", "y"))
        assert list(Keeping.got) == ["x", "y"]


FRAME = pd.DataFrame({"x": [1, 2], "y": ["a", "b"]})
ANSWERS = {
    "a frame by its columns": (FRAME, [[1, 2], ["a", "b"]]),
    "a dict by its keys": ({"y": ["a"], "x": 1.5}, [1.5, ["a"]]),
    "a list by its elements": ([np.array([1, 2]), ["a"]], [[1, 2], ["a"]]),
    "a tuple by its elements": ((1, "a"), [1, "a"]),
}


@pytest.mark.filterwarnings("ignore")
class TestWhatItReturns:
    @pytest.mark.parametrize(("answer", "expected"), ANSWERS.values(), ids=ANSWERS)
    def test_becomes_a_tensor_for_each_output(self, folder: Path, answer: Any, expected: list[Any]) -> None:
        outputs = run(folder, [NUMBERS], outputs=("x", "y"), answer=answer)

        assert [output.tolist() for output in outputs] == expected

    @pytest.mark.parametrize("answer", [[1, 2], np.array([1, 2]), pd.Series([1, 2]), pd.DataFrame({"any": [1, 2]})])
    def test_is_the_only_output_otherwise(self, folder: Path, answer: Any) -> None:
        (output,) = run(folder, [NUMBERS], answer=answer)

        assert output.tolist() == [1, 2]

    @pytest.mark.parametrize(
        ("answer", "problem"),
        [
            ([1, None], "output output has elements of the types NoneType, int, which no tensor can hold"),
            ([object()], "output output has elements of the types object, which no tensor can hold"),
            ([1j], "output output has elements of type complex128, which no tensor can hold"),
        ],
    )
    def test_is_an_error_that_names_its_types_where_no_tensor_can_hold_it(
        self, folder: Path, answer: Any, problem: str
    ) -> None:
        with pytest.raises(forms.Refused, match=problem):
            run(folder, [NUMBERS], answer=answer)

    def test_is_an_error_where_there_are_others_than_the_outputs(self, folder: Path) -> None:
        with pytest.raises(forms.Refused, match="but the model was stored with the outputs x, y"):
            run(folder, [NUMBERS], outputs=("x", "y"), answer={"x": 1})
