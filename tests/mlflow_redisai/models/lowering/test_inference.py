"""Inference without the values of large weights finds what inference finds with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlflow_redisai.models.lowering.inference import inferred_graph

LARGE = numpy_helper.from_array(np.ones((2000, 3), np.float64), "w")
SHAPE = numpy_helper.from_array(np.array([3, -1, 2], np.int64), "shape")
INPUT = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 2000])
node = helper.make_node


def model_of(*nodes: Any, inputs: tuple[Any, ...] = (INPUT,), functions: tuple[Any, ...] = ()) -> onnx.ModelProto:
    """Return a model with large weights `w`, a shape, and an output `y` of which nothing is declared."""
    graph = helper.make_graph(list(nodes), "test", list(inputs), [onnx.ValueInfoProto(name="y")], [LARGE, SHAPE])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ours", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def branch(name: str, *nodes: Any) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), name, [], [onnx.ValueInfoProto(name=f"{name}_y")])


def conditional() -> onnx.ModelProto:
    """Return a model whose branches use the weights of the graph around them."""
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    then = branch("then", node("MatMul", ["x", "w"], ["then_y"]))
    other = branch("else", node("Neg", ["x"], ["negative"]), node("MatMul", ["negative", "w"], ["else_y"]))
    chosen = node("If", ["flag"], ["y"], then_branch=then, else_branch=other)
    return model_of(chosen, inputs=(INPUT, flag))


def calling() -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", 18)]
    function = helper.make_function("ours", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], opsets)
    nodes = [node("Twice", ["w"], ["doubled"], domain="ours"), node("MatMul", ["x", "doubled"], ["y"])]
    return model_of(*nodes, functions=(function,))


MODELS = {
    "product": model_of(node("MatMul", ["x", "w"], ["z"]), node("Cast", ["z"], ["y"], to=TensorProto.FLOAT)),
    "shape": model_of(node("MatMul", ["x", "w"], ["z"]), node("Reshape", ["z", "shape"], ["y"])),
    "weights among the inputs": model_of(
        node("MatMul", ["x", "w"], ["y"]), inputs=(INPUT, helper.make_tensor_value_info("w", TensorProto.DOUBLE, None))
    ),
    "branches": conditional(),
    "function": calling(),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_finds_the_same(name: str) -> None:
    model = MODELS[name]
    before = model.SerializeToString(deterministic=True)
    expected = onnx.shape_inference.infer_shapes(model).graph

    found = inferred_graph(model)

    assert list(found.input) == list(expected.input)
    assert list(found.output) == list(expected.output)
    assert list(found.value_info) == list(expected.value_info)
    assert list(found.node) == list(expected.node)
    assert found.output[0].type.tensor_type.elem_type
    assert model.SerializeToString(deterministic=True) == before


def test_large_weights_have_only_their_type_and_shape() -> None:
    weights = {tensor.name: tensor for tensor in inferred_graph(MODELS["product"]).initializer}

    assert (weights["w"].data_type, list(weights["w"].dims)) == (TensorProto.DOUBLE, [2000, 3])
    assert weights["w"].ByteSize() < 100
    assert numpy_helper.to_array(weights["shape"]).tolist() == [3, -1, 2]
