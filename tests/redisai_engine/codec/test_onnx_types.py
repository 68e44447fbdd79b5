"""What an ONNX model declares about its inputs and outputs, in RedisAI's types and numpy's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from redisai_engine.codec.errors import UnusableOutput
from redisai_engine.codec.mapping import Input, Mapping
from redisai_engine.codec.onnx_types import (
    dtype_of,
    element_type,
    free_inputs,
    numpy_dtype_of,
    shape_of,
    with_own_types,
)
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType
from support.tiny_models import onnx_model

X = {"x": (TensorProto.FLOAT, ("N", 2))}
Y = {"y": (TensorProto.FLOAT, ("N", 2))}


def tensor(kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("x", kind, ["N"])


def sequence() -> onnx.ValueInfoProto:
    return helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)


@pytest.mark.parametrize(
    ("kind", "name", "dtype", "numpy_name"),
    [
        (TensorProto.FLOAT, "FLOAT", dtypes.FLOAT, "float32"),
        (TensorProto.DOUBLE, "DOUBLE", dtypes.DOUBLE, "float64"),
        (TensorProto.INT64, "INT64", dtypes.INT64, "int64"),
        (TensorProto.BOOL, "BOOL", dtypes.BOOL, "bool"),
        (TensorProto.STRING, "STRING", dtypes.STRING, "object"),
        (TensorProto.FLOAT16, "FLOAT16", None, "float16"),
        (TensorProto.UINT64, "UINT64", None, "uint64"),
    ],
)
def test_element_types(kind: int, name: str, dtype: DType | None, numpy_name: str) -> None:
    item = tensor(kind)

    assert (element_type(item), dtype_of(item), numpy_dtype_of(item)) == (name, dtype, numpy_name)


def test_what_is_no_tensor_has_no_element_type() -> None:
    assert (element_type(sequence()), dtype_of(sequence())) == (None, None)


@pytest.mark.parametrize(
    ("written", "shape"), [(["N", 2], (None, 2)), ([None, 3], (None, 3)), ([0], (None,)), ([], ()), (None, None)]
)
def test_lengths_that_are_not_fixed_are_none(written: list[object] | None, shape: tuple[int | None, ...]) -> None:
    assert shape_of(helper.make_tensor_value_info("x", TensorProto.FLOAT, written)) == shape


def test_inputs_that_are_initializers_are_not_fed() -> None:
    """Models of IR version 3 list their weights among the inputs."""
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    blob = onnx_model(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        {**X, "w": (TensorProto.FLOAT, (2,))},
        Y,
        initializers=[weight],
    )

    assert [item.name for item in free_inputs(onnx.load_from_string(blob))] == ["x"]


class TestWithoutARecord:
    def test_inputs_get_the_models_own_types_and_no_shapes(self) -> None:
        blob = onnx_model(
            [helper.make_node("Where", ["c", "x", "x"], ["y"])], {"c": (TensorProto.BOOL, ("N", 2)), **X}, Y
        )

        mapping = with_own_types(Mapping.generic(["x", "c"], ["y"]), blob, "m")

        assert mapping.inputs == (Input("x", dtypes.FLOAT), Input("c", dtypes.BOOL))

    def test_bytes_that_can_not_be_read_here_tell_nothing(self) -> None:
        generic = Mapping.generic(["x"], ["y"])

        assert with_own_types(generic, b"\xff not onnx", "m") is generic

    def test_an_output_that_is_no_tensor_is_refused(self) -> None:
        """As with ZipMap, which skl2onnx makes by default."""
        nodes = [helper.make_node("SequenceConstruct", ["x"], ["probabilities"])]
        output = helper.make_tensor_sequence_value_info("probabilities", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "m", [helper.make_tensor_value_info("x", *X["x"])], [output])

        with pytest.raises(UnusableOutput) as caught:
            with_own_types(
                Mapping.generic(["x"], ["probabilities"]), helper.make_model(graph).SerializeToString(), "iris"
            )

        assert str(caught.value) == (
            "the model 'iris' can't be used for predictions: its output 'probabilities' is not a tensor; deploy it "
            "with "
            "mlflow-redisai, or convert it without ZipMap"
        )
