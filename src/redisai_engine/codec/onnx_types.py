"""
What an ONNX model declares about its inputs and outputs: names, element types and shapes.

The functions need the package onnx, which is imported on first use.
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
    Return the generic mapping of a model without a record, with the element types that the model itself declares.

    Shapes are left out: only the model knows what its axes mean, and the server checks them. A model that the installed
    onnx package can't read leaves the mapping unchanged, because the server may still be able to. Raise UnusableOutput,
    which calls the model `name`, if an output is not a tensor: in a DAG, such a model crashes RedisAI 1.2.7.
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
    except Exception:  # protobuf's DecodeError, from any of its implementations
        return None


def free_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that must be fed. Old models also list their initializers among the inputs."""
    fixed = {tensor.name for tensor in model.graph.initializer}
    return [item for item in model.graph.input if item.name not in fixed]


def element_type(item: onnx.ValueInfoProto) -> str | None:
    """Return ONNX's name for a tensor's element type, or None for a sequence, map or optional, or an unknown type."""
    import onnx

    code = item.type.tensor_type.elem_type
    if not item.type.HasField("tensor_type") or code not in onnx.TensorProto.DataType.values():
        return None
    name: str = onnx.TensorProto.DataType.Name(code)
    return name


def dtype_of(item: onnx.ValueInfoProto) -> DType | None:
    """Return RedisAI's element type for an input or output, or None if RedisAI has none."""
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
    """Return the shape, with None for each free length, or None if the shape is unknown."""
    kind = item.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None for axis in kind.shape.dim
    )


def numpy_dtype_of(item: onnx.ValueInfoProto) -> str:
    """Return numpy's name for the element type that ONNX Runtime returns."""
    import onnx

    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type))
    return dtype.name if dtype.kind != "V" else "float32"
