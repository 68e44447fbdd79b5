"""
What an ONNX model tells of its own inputs and outputs: names, element types, shapes.

Needs the package onnx, which is imported when a function is first called.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from redisai_engine.codec.errors import UnusableOutput
from redisai_engine.codec.mapping import Input, Mapping, Shape
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType

if TYPE_CHECKING:
    import onnx


def with_own_types(mapping: Mapping, blob: bytes, name: str) -> Mapping:
    """
    Return the generic mapping of a model that has no record, with the element types that the model itself declares.

    Without shapes: what a model of unknown origin means by its axes is its own, and the server checks them. A model
    that the onnx package here can't read, though the server could, leaves the mapping as it is. Raise UnusableOutput,
    which names the model as `name`, if an output is no tensor: a RedisAI 1.2.7 server dies of such a model in a DAG.
    """
    proto = _parsed(blob)
    if proto is None:
        return mapping
    for output in proto.graph.output:
        if output.type.WhichOneof("value") != "tensor_type":
            raise UnusableOutput(name, output.name)
    types = {item.name: dtype_of(item) for item in free_inputs(proto)}
    return replace(mapping, inputs=tuple(Input(item.name, types.get(item.name)) for item in mapping.inputs))


def _parsed(blob: bytes) -> onnx.ModelProto | None:
    import onnx

    try:
        return onnx.load_model_from_string(blob)
    except Exception:  # protobuf's DecodeError, whichever of its implementations is installed
        return None


def free_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that must be fed: in old models initializers are listed among the inputs too."""
    fixed = {tensor.name for tensor in model.graph.initializer}
    return [item for item in model.graph.input if item.name not in fixed]


def element_type(item: onnx.ValueInfoProto) -> str | None:
    """Return ONNX's name of a tensor's element type, None for a sequence, map or optional."""
    import onnx

    if not item.type.HasField("tensor_type"):
        return None
    name: str = onnx.TensorProto.DataType.Name(item.type.tensor_type.elem_type)
    return name


def dtype_of(item: onnx.ValueInfoProto) -> DType | None:
    """Return RedisAI's element type for an input or output, None if it has none."""
    import onnx

    if element_type(item) is None:
        return None
    code = item.type.tensor_type.elem_type
    if code == onnx.TensorProto.STRING:
        return dtypes.STRING
    try:
        return dtypes.by_numpy(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code)))
    except (KeyError, TypeError):
        return None


def shape_of(item: onnx.ValueInfoProto) -> Shape | None:
    """Return the shape with None for every free length, or None if nothing is known of it."""
    kind = item.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None for axis in kind.shape.dim
    )


def numpy_dtype_of(item: onnx.ValueInfoProto) -> str:
    """Return numpy's name of the element type that ONNX Runtime gives out."""
    import onnx

    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type))
    return dtype.name if dtype.kind != "V" else "float32"
