"""
The types and shapes of all tensors of an ONNX graph, by onnx's own inference.

Inference copies a model several times, which takes seconds for large weights. So it gets a model that has only their
types and shapes. Small ones keep their values: a shape, an axis or a number of repetitions decides about other shapes.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_MOST_ELEMENTS = 1024  # of a weight that keeps its values


def inferred_graph(model: onnx.ModelProto) -> onnx.GraphProto:
    """Return the model's main graph with what is known of all its tensors. Large weights have no values in it."""
    import onnx

    large = [_head(tensor) for tensor in model.graph.initializer if prod(tensor.dims) > _MOST_ELEMENTS]
    light = _without(model, {tensor.name for tensor in large})
    given = {item.name for item in light.graph.input}
    count = len(light.graph.input)
    light.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in large
        if tensor.name not in given
    )
    graph = onnx.shape_inference.infer_shapes(light).graph
    del graph.input[count:]
    graph.initializer.extend(large)
    return graph


def _head(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return type(tensor)(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


def _without(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """Return a copy of what inference looks at, without the weights of these names."""
    graph = model.graph
    return type(model)(
        ir_version=model.ir_version,
        opset_import=model.opset_import,
        functions=model.functions,
        graph=type(graph)(
            node=graph.node,
            input=graph.input,
            output=graph.output,
            value_info=graph.value_info,
            initializer=[tensor for tensor in graph.initializer if tensor.name not in names],
            sparse_initializer=graph.sparse_initializer,
        ),
    )
