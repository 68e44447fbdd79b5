"""Runs on bound buffers answer as regular runs do, whatever happens in between."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from redisai_engine.backends.base import BackendSettings, LoadedModel
from redisai_engine.backends.registry import backend
from redisai_engine.errors import ModelRunError
from support.tiny_models import onnx_model

ONE_THREAD = BackendSettings()


def model_of(*nodes: Any, output: tuple[int, tuple[Any, ...]]) -> LoadedModel:
    """Build a model of FLOAT rows of three."""
    made = onnx_model(list(nodes), {"x": (TensorProto.FLOAT, ("N", 3))}, {"y": output})
    return backend("ONNX").load(made, "CPU", inputs=(), outputs=(), settings=ONE_THREAD)


@pytest.fixture
def double() -> LoadedModel:
    return model_of(helper.make_node("Add", ["x", "x"], ["y"]), output=(TensorProto.FLOAT, ("N", 3)))


def rows(*values: float) -> np.ndarray:
    return np.array([[value] * 3 for value in values], np.float32)


def answer(model: LoadedModel, array: np.ndarray) -> list[Any]:
    [found] = model.run([array])
    assert found is not None
    return found.tolist()


def test_the_same_form_again_and_again(double: LoadedModel) -> None:
    for value in range(10):
        assert answer(double, rows(value)) == rows(2 * value).tolist()


def test_other_forms_in_between(double: LoadedModel) -> None:
    for values in ([1], [2], [3], [4, 5], [6], [7, 8], [9, 10], [11, 12], [13]):
        assert answer(double, rows(*values)) == (2 * rows(*values)).tolist()


def test_an_answer_is_not_written_again(double: LoadedModel) -> None:
    answers = [double.run([rows(value)])[0] for value in range(6)]

    assert [found.tolist() for found in answers if found is not None] == [
        rows(2 * value).tolist() for value in range(6)
    ]


def test_threads_do_not_share_buffers(double: LoadedModel) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda value: answer(double, rows(value)), range(500)))

    assert found == [rows(2 * value).tolist() for value in range(500)]


def test_an_array_that_is_part_of_another(double: LoadedModel) -> None:
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    for _ in range(4):
        assert answer(double, whole[:, ::2]) == (2 * whole[:, ::2]).tolist()


def test_outputs_whose_shape_follows_from_values() -> None:
    places = model_of(helper.make_node("NonZero", ["x"], ["y"]), output=(TensorProto.INT64, (2, "M")))
    for values in ([[1, 1, 1]], [[1, 1, 1]], [[1, 1, 1]], [[0, 1, 0]], [[1, 0, 1]], [[0, 0, 0]]):
        array = np.array(values, np.float32)
        assert answer(places, array) == np.array(np.nonzero(array)).tolist()


def test_what_fails_fails_with_the_same_words_and_harms_nothing(double: LoadedModel) -> None:
    wrong = np.zeros((1, 4), np.float32)
    with pytest.raises(ModelRunError) as first:
        double.run([wrong])
    for value in range(4):
        answer(double, rows(value))
    with pytest.raises(ModelRunError) as second:
        double.run([wrong])

    assert str(second.value) == str(first.value)
    assert answer(double, rows(5)) == rows(10).tolist()


def test_a_value_that_the_model_refuses_fails_as_before_and_harms_nothing() -> None:
    """Its form is the bound one, so the bound run itself fails."""
    row = onnx_model(
        [
            helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
            helper.make_node("GatherElements", ["x", "i"], ["y"], axis=1),
        ],
        {"x": (TensorProto.FLOAT, ("N", 3))},
        {"y": (TensorProto.FLOAT, ("N", 3))},
    )
    model = backend("ONNX").load(row, "CPU", inputs=(), outputs=(), settings=ONE_THREAD)
    fine, wrong = np.array([[2, 0, 1]], np.float32), np.array([[9, 0, 1]], np.float32)
    with pytest.raises(ModelRunError) as first:
        model.run([wrong])
    for _ in range(4):
        assert answer(model, fine) == [[1.0, 2.0, 0.0]]

    with pytest.raises(ModelRunError) as second:
        model.run([wrong])

    assert str(second.value) == str(first.value)
    for _ in range(4):
        assert answer(model, fine) == [[1.0, 2.0, 0.0]]


# What a graph's outputs can be besides the results of its nodes: name of the output → its nodes.
OUTPUTS = {
    "x": [],  # the input itself
    "k": [],  # an initializer
    "same": [helper.make_node("Identity", ["x"], ["same"])],
    "again": [helper.make_node("Identity", ["x"], ["once"]), helper.make_node("Identity", ["once"], ["again"])],
    "constant": [helper.make_node("Identity", ["k"], ["constant"])],
    "negative": [helper.make_node("Neg", ["x"], ["negative"])],
    "sum": [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)],
    "large": [helper.make_node("Greater", ["x", "k"], ["large"])],
    "places": [helper.make_node("NonZero", ["x"], ["places"])],
}


@pytest.mark.parametrize("names", [[name] for name in OUTPUTS] + [["x", "negative"], ["k", "sum", "x"], list(OUTPUTS)])
def test_whatever_an_output_is_it_is_answered_each_time(names: list[str]) -> None:
    """Only computed outputs are written to bound buffers."""
    shapes = {
        "sum": (TensorProto.FLOAT, ()),
        "large": (TensorProto.BOOL, (4,)),
        "places": (TensorProto.INT64, (1, "n")),
    }
    outputs = {name: shapes.get(name, (TensorProto.FLOAT, (4,))) for name in names}
    nodes = [node for name in names for node in OUTPUTS[name]]
    constant = helper.make_tensor("k", TensorProto.FLOAT, [4], [1, 2, 3, 4])
    blob = onnx_model(nodes, {"x": (TensorProto.FLOAT, (4,))}, outputs, initializers=[constant])
    model = backend("ONNX").load(blob, "CPU", inputs=(), outputs=(), settings=ONE_THREAD)
    k = np.array([1, 2, 3, 4], np.float32)

    for row in ([1, 2, 0, 3], [1, 2, 0, 3], [0, 0, 0, 1], [5, 6, 7, 8], [9, 6, 7, 8], [0, 0, 0, 0]):
        x = np.array(row, np.float32)
        wanted = {"x": x, "k": k, "same": x, "again": x, "constant": k, "negative": -x, "sum": x.sum(), "large": x > k}
        wanted["places"] = np.array(np.nonzero(x))
        found = model.run([x])
        assert [array.tolist() for array in found if array is not None] == [wanted[name].tolist() for name in names]
