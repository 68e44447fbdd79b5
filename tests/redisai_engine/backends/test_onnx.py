"""What only the ONNX backend does: element types, outputs that aren't tensors, stopping a run."""

from __future__ import annotations

import os
import subprocess
import sys
from threading import Timer
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from redisai_engine.backends import registry
from redisai_engine.backends.base import BackendSettings, LoadedModel
from redisai_engine.errors import ModelLoadError, ModelRunError
from support import onnx_faults
from support.tiny_models import onnx_cast, onnx_counter, onnx_elementwise, onnx_model


def load(blob: bytes) -> LoadedModel:
    return registry.backend("ONNX").load(blob, "CPU", inputs=(), outputs=(), settings=BackendSettings())


@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        (TensorProto.FLOAT, np.float32),
        (TensorProto.DOUBLE, np.float64),
        (TensorProto.INT8, np.int8),
        (TensorProto.INT16, np.int16),
        (TensorProto.INT32, np.int32),
        (TensorProto.INT64, np.int64),
        (TensorProto.UINT8, np.uint8),
        (TensorProto.UINT16, np.uint16),
        (TensorProto.BOOL, np.bool_),
    ],
)
def test_every_number_type_of_redisai_goes_in_and_out(element: int, dtype: Any) -> None:
    x = np.array([1, 0, 100], np.int64).astype(dtype)

    (y,) = load(onnx_elementwise("Identity", element)).run([x])

    assert y is not None
    assert dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def test_text_goes_in_and_out() -> None:
    x = np.array(["a b", "ö", ""], object)

    (y,) = load(onnx_elementwise("Identity", TensorProto.STRING)).run([x])

    assert y is not None
    assert y.tolist() == ["a b", "ö", ""]


def test_text_that_is_not_utf_8_is_an_error() -> None:
    x = np.array([b"\xff".decode("utf-8", "surrogateescape")], object)

    with pytest.raises(ModelRunError) as failed:
        load(onnx_elementwise("Identity", TensorProto.STRING)).run([x])

    assert "ERR ONNX models take only UTF-8 text: " in failed.value.wire


@pytest.mark.parametrize(
    ("element", "came", "value"),
    [
        (TensorProto.FLOAT16, np.float32, 1.5),
        (TensorProto.UINT32, np.int64, 2**32 - 1),
        (TensorProto.UINT64, np.int64, 2**63 - 1),
    ],
)
def test_a_type_that_redisai_lacks_travels_in_the_next_larger_one(element: int, came: Any, value: float) -> None:
    """RedisAI itself crashes on such outputs."""
    (y,) = load(onnx_elementwise("Identity", element)).run([np.array([value], came)])

    assert y is not None
    assert came == y.dtype
    assert value == y[0]


@pytest.mark.parametrize(
    ("element", "value", "text"),
    [
        (TensorProto.UINT32, -5, "ERR input x (uint32) has the value -5; allowed: 0 to 4294967295"),
        (TensorProto.UINT32, 2**32, "ERR input x (uint32) has the value 4294967296; allowed: 0 to 4294967295"),
    ],
)
def test_a_value_that_the_model_s_type_cannot_hold_is_an_error(element: int, value: int, text: str) -> None:
    model = load(onnx_elementwise("Identity", element))

    with pytest.raises(ModelRunError) as failed:
        model.run([np.array([value], np.int64)])

    assert text == failed.value.wire


def test_an_output_that_int64_cannot_hold_is_an_error() -> None:
    model = load(onnx_cast(TensorProto.UINT64))

    with pytest.raises(ModelRunError) as failed:
        model.run([np.array([2.0**63], np.float32)])

    assert failed.value.wire == "ERR output y (uint64) has the value 9223372036854775808, which INT64 can't hold"


def test_a_model_with_an_element_type_that_nothing_stands_for_is_refused() -> None:
    blob = onnx_cast(TensorProto.BFLOAT16)

    with pytest.raises(ModelLoadError) as refused:
        load(blob)

    assert refused.value.wire == (
        "ERR output y has the type tensor(bfloat16), which the engine doesn't support; "
        "convert the model to one of FLOAT, DOUBLE, FLOAT16 or an integer type"
    )


def test_an_output_that_is_no_tensor_is_listed_and_left_out() -> None:
    """RedisAI crashes when this happens in a DAG."""
    nodes = [helper.make_node("SequenceConstruct", ["x"], ["s"]), helper.make_node("Neg", ["x"], ["y"])]
    shape = (TensorProto.FLOAT, ("N",))
    blob = onnx_model(nodes, {"x": shape}, {"y": shape})
    graph = onnx.load_from_string(blob)
    graph.graph.output.insert(0, helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["N"]))

    model = load(graph.SerializeToString())
    s, y = model.run([np.array([1.0], np.float32)])

    assert model.outputs == ("s", "y")
    assert s is None
    assert y is not None
    assert y.tolist() == [-1.0]


def test_scalar_and_empty_outputs_are_arrays() -> None:
    """RedisAI divides by zero over an output without rows."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Transpose", ["places"], ["rows"]),
    ]
    outputs = {"top": (TensorProto.FLOAT, ()), "rows": (TensorProto.INT64, ("M", 1))}
    model = load(onnx_model(nodes, {"x": (TensorProto.FLOAT, ("N",))}, outputs))

    top, rows = model.run([np.zeros(3, np.float32)])

    assert top is not None
    assert rows is not None
    assert (top.shape, rows.shape) == ((), (0, 1))


def test_the_runtime_s_own_text_is_the_error() -> None:
    model = load(onnx_elementwise("Neg", TensorProto.FLOAT))

    with pytest.raises(ModelRunError) as failed:
        model.run([np.array([1], np.int64)])

    assert failed.value.wire == ("Unexpected input data type. Actual: (tensor(int64)) , expected: (tensor(float))")


def test_a_run_can_be_stopped() -> None:
    model = load(onnx_counter())
    stop = model.new_stop()
    assert stop is not None
    timer = Timer(0.2, lambda: setattr(stop, "terminate", True))
    timer.start()

    with pytest.raises(ModelRunError) as failed:
        model.run([np.array([10**12]), np.zeros(1, np.float32)], stop)
    timer.join()

    assert "terminate flag" in failed.value.wire


def test_a_real_classifier_answers_as_scikit_learn_does() -> None:
    from skl2onnx import to_onnx
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_wine(return_X_y=True)
    classes = np.array(["barolo", "grignolino", "barbera"])[y]
    x = x.astype(np.float32)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, classes)
    blob = to_onnx(pipeline, x[:1], options={"zipmap": False}, target_opset={"": 15, "ai.onnx.ml": 3})

    labels, probabilities = load(blob.SerializeToString()).run([x])

    assert labels is not None
    assert pipeline.predict(x).tolist() == labels.tolist()
    np.testing.assert_allclose(pipeline.predict_proba(x), probabilities, atol=1e-5)


def test_made_up_inputs_are_as_small_as_the_model_allows() -> None:
    """Ones, because many models divide by an input."""
    inputs = {"numbers": (TensorProto.FLOAT16, ("N", 3)), "words": (TensorProto.STRING, (2,))}
    nodes = [helper.make_node("Identity", [name], [f"{name} again"]) for name in inputs]
    model = load(onnx_model(nodes, inputs, {f"{name} again": kind for name, kind in inputs.items()}))

    numbers, words = model.example() or []

    assert (numbers.dtype, numbers.tolist()) == (np.float16, [[1.0, 1.0, 1.0]])
    assert words.tolist() == ["1", "1"]
    assert [None if each is None else each.shape for each in model.run([numbers, words])] == [(1, 3), (2,)]


@pytest.mark.parametrize(
    "shape", [(2**40,), (2**20, 2**20), (2**62, 2**62), (2**63 - 1,) * 5, (0, 2**62), (1,) * 65, ("N",) * 70], ids=str
)
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.STRING])
def test_inputs_that_are_large_or_no_arrays_are_not_made_up(element: int, shape: tuple[int | str, ...]) -> None:
    """What a model tells of its inputs needn't be true, nor possible."""
    told = (element, shape)

    model = load(onnx_model([helper.make_node("Identity", ["x"], ["y"])], {"x": told}, {"y": (element, None)}))

    assert model.example() is None


def test_many_inputs_are_not_made_up_if_they_are_large_together() -> None:
    inputs = {f"x{number}": (TensorProto.DOUBLE, (2**10,)) for number in range(65)}
    nodes = [helper.make_node("Identity", [name], [f"{name} again"]) for name in inputs]

    model = load(onnx_model(nodes, inputs, {f"{name} again": kind for name, kind in inputs.items()}))

    assert model.example() is None


@pytest.mark.parametrize("shape", [None, (), (0,), (0,) * 40, ("N", 2**31, 0), (-5,), (1,) * 33], ids=str)
def test_odd_shapes_that_are_possible_are_made_up(shape: tuple[int | str, ...] | None) -> None:
    told = (TensorProto.FLOAT, shape)

    model = load(onnx_model([helper.make_node("Identity", ["x"], ["y"])], {"x": told}, {"y": told}))

    (made_up,) = model.example() or []
    assert made_up.size <= 1


def test_a_load_that_is_tried_out_prints_nothing_and_leaves_standard_error_as_it_was(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """ONNX Runtime warns of a constant that is too large to be computed in advance."""
    blob = onnx_faults.hungry_load(1, 2**40)
    backend = registry.backend("ONNX")

    model = backend.try_out(blob, "CPU", inputs=(), outputs=(), settings=BackendSettings())
    os.write(2, b"as before")

    assert model.inputs == ("x",)
    assert capfd.readouterr().err == "as before"


PRINTING = """
import ctypes, os, re
from redisai_engine.backends import onnx
from redisai_engine.errors import ModelLoadError

with onnx._printed() as said:
    for _ in range({mebibytes}):
        ctypes.{library}(None).write(2, b"a" * (1 << 20), 1 << 20)
    ctypes.{library}(None).write(2, b"bad_alloc", 9)
try:
    print(said.has(re.compile(b"bad_alloc")))
except ModelLoadError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("library", "mebibytes", "said"),
    [
        ("PyDLL", 0, "True"),
        ("PyDLL", 3, "True"),
        ("CDLL", 3, "True"),
        ("CDLL", 20, "ONNX Runtime prints 16 MiB of warnings about the model"),
    ],
)
def test_a_library_may_print_much_while_it_holds_pythons_lock(library: str, mebibytes: int, said: str) -> None:
    """ONNX Runtime 1.30 does. Functions of a PyDLL hold the lock; in a process of its own, which might never end."""
    program = PRINTING.format(library=library, mebibytes=mebibytes)

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert ran.stdout.strip() == said


def test_the_model_that_warms_a_process_up_is_a_model() -> None:
    registry.backend("ONNX").warm_up()
