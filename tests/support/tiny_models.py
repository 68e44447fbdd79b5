"""
Small models made on the spot: the same function in the format of every backend.

`product_and_sum` has two FLOAT inputs of any rank-2 shape and two outputs, a*b and a+b. A framework is imported only
when a model of its kind is made.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TinyModel:
    """A model's bytes, and the names that AI.MODELSTORE needs for TF."""

    backend: str
    blob: bytes
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def product_and_sum(backend: str) -> TinyModel:
    return _MAKERS[backend]()


def passing(backend: str, kind: str) -> TinyModel:
    """Return a model that returns its input, a vector of NumPy type `kind`, as a column. The type object is text."""
    return _PASSING[backend](kind)


def onnx_model(
    nodes: Sequence[Any],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    opset: int = 16,
    *,
    initializers: Sequence[Any] = (),
) -> bytes:
    """Build an ONNX model. Inputs and outputs are {name: (element type, shape)}."""
    from onnx import helper

    def infos(values: dict[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(name, *value) for name, value in values.items()]

    graph = helper.make_graph(list(nodes), "tiny", infos(inputs), infos(outputs), list(initializers))
    opsets = [helper.make_opsetid("", opset)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def onnx_elementwise(operator: str, element: int) -> bytes:
    """Build an ONNX model of one operator, with input `x` of any length and output `y`."""
    from onnx import helper

    shape = (element, ("N",))
    return onnx_model([helper.make_node(operator, ["x"], ["y"])], {"x": shape}, {"y": shape})


def onnx_cast(element: int) -> bytes:
    """Build an ONNX model that casts `x`, FLOAT, to another type."""
    from onnx import TensorProto, helper

    node = helper.make_node("Cast", ["x"], ["y"], to=element)
    return onnx_model([node], {"x": (TensorProto.FLOAT, ("N",))}, {"y": (element, ("N",))})


def onnx_counter() -> bytes:
    """Build an ONNX model that adds 1 to `start` `n` times, one step after another: as slow as needed."""
    from onnx import TensorProto, helper

    add = [
        helper.make_node("Constant", [], ["one"], value=helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])),
        helper.make_node("Add", ["in", "one"], ["out"]),
        helper.make_node("Identity", ["go"], ["go_on"]),
    ]
    body = helper.make_graph(
        add,
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("in", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("out", TensorProto.FLOAT, [1]),
        ],
    )
    nodes = [
        helper.make_node("Squeeze", ["n"], ["times"]),
        helper.make_node("Loop", ["times", "", "start"], ["y"], body=body),
    ]
    return onnx_model(
        nodes, {"n": (TensorProto.INT64, [1]), "start": (TensorProto.FLOAT, [1])}, {"y": (TensorProto.FLOAT, [1])}
    )


def onnx_pooling() -> bytes:
    """Build an ONNX model that looks for the largest of 1000 × 1000 zeros around each of `n`: slow in one kernel."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["zeros"]),
        helper.make_node("MaxPool", ["zeros"], ["y"], kernel_shape=[1000, 1000]),
    ]
    return onnx_model(nodes, {"n": (TensorProto.INT64, [4])}, {"y": (TensorProto.FLOAT, [1, 1, "H", "W"])})


def _onnx() -> TinyModel:
    from onnx import TensorProto, helper

    shape = (TensorProto.FLOAT, ("N", "M"))
    nodes = [helper.make_node("Mul", ["a", "b"], ["product"]), helper.make_node("Add", ["a", "b"], ["sum"])]
    return TinyModel("ONNX", onnx_model(nodes, {"a": shape, "b": shape}, {"product": shape, "sum": shape}))


def _torch() -> TinyModel:
    import torch

    class ProductAndSum(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return a * b, a + b

    return TinyModel("TORCH", torchscript(ProductAndSum()))


def torchscript(module: Any) -> bytes:
    """
    Return a scripted module's bytes.

    New versions of torch deprecate the format, but it is the one that RedisAI runs.
    """
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def _tensorflow() -> TinyModel:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        a = tf.compat.v1.placeholder(tf.float32, (None, None), "a")
        b = tf.compat.v1.placeholder(tf.float32, (None, None), "b")
        tf.multiply(a, b, "product")
        tf.add(a, b, "sum")
    return TinyModel("TF", graph.as_graph_def().SerializeToString(), ("a", "b"), ("product", "sum"))


def _tflite() -> TinyModel:
    import tensorflow as tf

    spec = tf.TensorSpec((None, 3), tf.float32)

    @tf.function(input_signature=[spec, spec])
    def product_and_sum(a: Any, b: Any) -> dict[str, Any]:
        return {"product": a * b, "sum": a + b}

    concrete = product_and_sum.get_concrete_function()
    return TinyModel("TFLITE", tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert())


def _onnx_passing(kind: str) -> TinyModel:
    import numpy as np
    from onnx import helper

    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    axis = helper.make_node("Constant", [], ["axis"], value_ints=[1])
    nodes = [axis, helper.make_node("Unsqueeze", ["x", "axis"], ["y"])]
    return TinyModel("ONNX", onnx_model(nodes, {"x": (element, ("N",))}, {"y": (element, ("N", 1))}))


def _torch_passing(kind: str) -> TinyModel:
    """Build a model that casts its input itself, because TorchScript doesn't say which type it takes."""
    import torch

    class Passing(torch.nn.Module):
        def __init__(self, to: torch.dtype) -> None:
            super().__init__()
            self.to_type = to

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape([-1, 1]).to(self.to_type)

    return TinyModel("TORCH", torchscript(Passing(getattr(torch, kind))))


def _tensorflow_passing(kind: str) -> TinyModel:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.reshape(tf.compat.v1.placeholder(_tf_type(kind), (None,), "x"), (-1, 1), "y")
    return TinyModel("TF", graph.as_graph_def().SerializeToString(), ("x",), ("y",))


def _tflite_passing(kind: str) -> TinyModel:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None,), _tf_type(kind))])
    def passing(x: Any) -> Any:
        return tf.reshape(x, (-1, 1))

    concrete = passing.get_concrete_function()
    return TinyModel("TFLITE", tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert())


def _tf_type(kind: str) -> str:
    return "string" if kind == "object" else kind


_PASSING = {"ONNX": _onnx_passing, "TORCH": _torch_passing, "TF": _tensorflow_passing, "TFLITE": _tflite_passing}

_MAKERS = {"ONNX": _onnx, "TORCH": _torch, "TF": _tensorflow, "TFLITE": _tflite}


def onnx_with_weights(size: int, seed: int) -> bytes:
    """Build an ONNX model that adds to `x`, FLOAT, the sum of weights that take `size` bytes, drawn by `seed`."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    drawn = np.random.default_rng(seed).random(size // 4, np.float32)
    # The first element of `x` takes part, so that the sum can't be computed when the model is loaded.
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["w", "largest"], ["scaled"]),
        helper.make_node("ReduceSum", ["scaled"], ["total"], keepdims=0),
        helper.make_node("Add", ["x", "total"], ["y"]),
    ]
    shape = (TensorProto.FLOAT, ("N",))
    return onnx_model(nodes, {"x": shape}, {"y": shape}, initializers=[numpy_helper.from_array(drawn, "w")])


def torch_with_weights(size: int) -> bytes:
    """Build a TorchScript model that multiplies weights of `size` bytes by the sum of `x`."""
    import torch

    class Weights(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.rand(size // 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.w * x.sum())[:3]

    return torchscript(Weights())
