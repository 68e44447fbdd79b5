"""Small ONNX models that do harm when they are loaded, or when they run for the first time."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from support.tiny_models import onnx_model

LOWEST = -(2**63)
_FLOAT = (TensorProto.FLOAT, ("N",))
_INT = (TensorProto.INT64, ("N",))


def integers(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def crashing_load(name: str = "q") -> bytes:
    """
    Return a model that divides the lowest number by -1, whose quotient no int64 holds, as soon as it is loaded.

    Each `name` of the quotient makes another blob.
    """
    nodes = [helper.make_node("Div", ["lowest", "minus"], [name]), helper.make_node("Add", ["x", name], ["y"])]
    return onnx_model(nodes, {"x": _INT}, {"y": _INT}, initializers=[integers("lowest", LOWEST), integers("minus", -1)])


def crashing_run(number: int = 1) -> bytes:
    """Return a model that makes the same division when its input is this number."""
    nodes = [
        helper.make_node("Sub", ["x", "number"], ["zero"]),
        helper.make_node("Add", ["zero", "lowest"], ["a"]),
        helper.make_node("Add", ["zero", "minus"], ["b"]),
        helper.make_node("Div", ["a", "b"], ["y"]),
    ]
    weights = [integers("number", number), integers("lowest", LOWEST), integers("minus", -1)]
    return onnx_model(nodes, {"x": _INT}, {"y": _INT}, initializers=weights)


def slow_load(products: int, size: int = 2000) -> bytes:
    """Return a model with so many products of square matrices, which are computed when it is loaded."""
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.001])
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["m0"], value=value)]
    nodes += [helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(products)]
    nodes += [
        helper.make_node("ReduceSum", [f"m{products}"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return onnx_model(nodes, {"x": _FLOAT}, {"y": _FLOAT}, initializers=[integers("shape", size, size)])


def hungry_load(constants: int, size: int) -> bytes:
    """Return a model with so many constants of `size` bytes, of which the file has only the lengths."""
    nodes = []
    for i in range(constants):
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [float(i)])
        nodes += [
            helper.make_node("ConstantOfShape", ["shape"], [f"c{i}"], value=value),
            helper.make_node("Add", [f"y{i - 1}" if i else "x", f"c{i}"], [f"y{i}"]),
        ]
    shape = [integers("shape", size // 4)]
    return onnx_model(nodes, {"x": (TensorProto.FLOAT, (1,))}, {f"y{constants - 1}": _FLOAT}, initializers=shape)


def branching(depth: int) -> bytes:
    """Return a model of conditions within conditions, in both branches: 2 ** `depth` of them."""
    kind = helper.make_tensor_value_info
    one = [kind("o", TensorProto.FLOAT, [1])]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["o"])], "g", [], one)
    for i in range(depth):
        name = f"o{i}"
        node = helper.make_node("If", ["c"], [name], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "g", [], [kind(name, TensorProto.FLOAT, [1])])
    inputs = {"x": (TensorProto.FLOAT, [1]), "c": (TensorProto.BOOL, [1])}
    return onnx_model(list(graph.node), inputs, {graph.output[0].name: (TensorProto.FLOAT, [1])})


def endless_run(times: int = 2**62) -> bytes:
    """Return a model that adds 1 to its input for as long as a process lives."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Add", ["before", "before"], ["after"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("before", TensorProto.FLOAT, [1]),
        ],
        [info("go_on", TensorProto.BOOL, []), info("after", TensorProto.FLOAT, [1])],
    )
    times = numpy_helper.from_array(np.array(times, np.int64), "times")
    node = helper.make_node("Loop", ["times", "", "x"], ["y"], body=body)
    vector = (TensorProto.FLOAT, [1])
    return onnx_model([node], {"x": vector}, {"y": vector}, initializers=[times])


def failing_run() -> bytes:
    """Return a model that runs with three numbers only, which its description doesn't say."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    return onnx_model(nodes, {"x": _FLOAT}, {"y": (TensorProto.FLOAT, (3, 1))}, initializers=[integers("shape", 3, 1)])
