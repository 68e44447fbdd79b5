"""Checks and changes of ONNX graphs of any origin."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models import graph
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.tensor import Tensor


def model(nodes: list[Any], kind: int = TensorProto.FLOAT, *, opset: int = 15) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, kind, ["rows", 2]) for name in "xy")
    proto = helper.make_graph(nodes, "test", [x], [y])
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def chain(length: int) -> list[Any]:
    names = ["x", *(f"n{index}" for index in range(length - 1)), "y"]
    return [helper.make_node("Neg", [one], [two]) for one, two in itertools.pairwise(names)]


@pytest.mark.parametrize("length", [1, 5])
def test_depth_counts_operations_one_after_another(length: int) -> None:
    assert graph.depth(model(chain(length))) == length


@pytest.mark.parametrize(
    ("nodes", "kind", "dtype"),
    [
        (chain(2), TensorProto.FLOAT, dtypes.FLOAT),
        (chain(2), TensorProto.DOUBLE, dtypes.DOUBLE),
        (
            [
                helper.make_node("Cast", ["x"], ["s"], to=TensorProto.FLOAT),
                helper.make_node("Cast", ["s"], ["y"], to=TensorProto.DOUBLE),
            ],
            TensorProto.DOUBLE,
            dtypes.FLOAT,
        ),
    ],
    ids=["float32", "float64", "float32 between float64"],
)
def test_precision_is_that_of_the_least_exact_number(nodes: list[Any], kind: int, dtype: dtypes.DType) -> None:
    assert graph.precision(model(nodes, kind)) is dtype


def test_a_graph_that_breaks_the_format_is_refused() -> None:
    """A converter once wrote an operator that ONNX doesn't have, and reported no error."""
    proto = model([helper.make_node("Erfc", ["x"], ["y"])])

    with pytest.raises(NotConvertible, match=r"the ONNX graph of the test is invalid: .*Erfc"):
        graph.finish(proto, ServerLimits(), "the test")


def test_a_graph_that_onnx_runtime_refuses_is_refused() -> None:
    """Types that don't match pass onnx.checker."""
    proto = model([helper.make_node("Neg", ["x"], ["z"]), helper.make_node("Cast", ["z"], ["y"], to=TensorProto.INT8)])

    with pytest.raises(NotConvertible, match="ONNX Runtime can't load the ONNX graph of the test; ") as caught:
        graph.finish(proto, ServerLimits(), "the test")
    assert "ONNXRuntimeError" not in caught.value.message


def test_the_model_given_is_not_changed() -> None:
    proto = model(chain(1), opset=19)
    before = proto.SerializeToString()

    graph.finish(proto, ServerLimits(), "the test")

    assert proto.SerializeToString() == before


def test_a_cast_lets_an_input_have_another_type() -> None:
    proto = model(chain(1), TensorProto.DOUBLE)
    graph.cast_input(proto, proto.graph.input[0], dtypes.INT64)
    run = graph.runner(graph.finish(proto, ServerLimits(), "the test"), (0,), "the test")

    answer = run([Tensor.from_array(np.array([[1, 2]]))])

    assert answer[0].array().tolist() == [[-1.0, -2.0]]
