"""
Building parts of a graph for skl2onnx: an operator's inputs as one matrix, its outputs, and the nodes in between.

Invariant: names are unique in the whole graph, because the prefix comes from skl2onnx.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_redisai.models.nodes import Nodes
from redisai_engine.codec.values import Array


def nodes_of(scope: Any, stem: str) -> Nodes:
    """Return an empty part of a graph, whose names begin with `stem`."""
    return Nodes(prefix=f"{scope.get_unique_operator_name(stem)}_")


def source(nodes: Nodes, operator: Any) -> str:
    """Return the name of the operator's input, with its columns joined if there are several inputs."""
    inputs = [item.full_name for item in operator.inputs]
    return inputs[0] if len(inputs) == 1 else nodes.add("Concat", *inputs, axis=1)


def numbers(nodes: Nodes, operator: Any) -> str:
    """Return the name of the operator's input as a float64 matrix."""
    parts = [nodes.cast(item.full_name, np.float64) for item in operator.inputs]
    return parts[0] if len(parts) == 1 else nodes.add("Concat", *parts, axis=1)


def is_text(variable: Any) -> bool:
    return type(variable.type).__name__ == "StringTensorType"


def is_whole(variable: Any) -> bool:
    return type(variable.type).__name__ == "Int64TensorType"


def give(nodes: Nodes, name: str, output: str, wanted: Any) -> None:
    """Cast an output to the type that skl2onnx has set for it, on which the following steps rely."""
    kinds = {"FloatTensorType": np.float32, "DoubleTensorType": np.float64, "Int64TensorType": np.int64}
    dtype = kinds.get(type(wanted).__name__)
    if dtype is None:
        nodes.add("Identity", name, name=output)
    else:
        nodes.cast(name, dtype, output)


def row_max(nodes: Nodes, name: str) -> str:
    """Return the name of the largest number of each row, in a form that every version of ai.onnx has."""
    place = nodes.add("ArgMax", name, axis=1, keepdims=1)
    return nodes.add("GatherElements", name, place, axis=1)


def labels(nodes: Nodes, classes: Array, positions: str) -> str:
    """Return the name of the classes at `positions`, in a type that tensors have."""
    plain = np.asarray(classes.tolist())
    plain = plain.astype(np.int64) if plain.dtype.kind in "iufb" else plain
    return nodes.add("Gather", nodes.constant(plain), positions, axis=0)


def put(nodes: Nodes, container: Any, ml_opset: int | None = None) -> None:
    """Add the part to the graph that skl2onnx builds. `ml_opset` is the version of its nodes of ai.onnx.ml."""
    import onnx

    for tensor in nodes.constants:
        values = onnx.numpy_helper.to_array(tensor)
        flat = values.ravel().tolist()
        content = [text.encode() if isinstance(text, str) else text for text in flat]
        container.add_initializer(tensor.name, tensor.data_type, list(values.shape), content)
    for node in nodes.nodes:
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        container.add_node(
            node.op_type,
            list(node.input),
            list(node.output),
            op_domain=node.domain,
            # By default skl2onnx uses the newest version, which has other operators for trees.
            op_version=ml_opset if node.domain else None,
            name=f"{nodes.prefix}{node.output[0]}",
            **attributes,
        )
