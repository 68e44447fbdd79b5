"""
ONNX graphs, whatever they were converted from: bringing them within the server's limits, and checking what came out.

Knows nothing of MLflow's flavors. Invariant: what `finish` gives stays within the limits, has passed onnx.checker and
was loaded by the ONNX Runtime on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.codec.onnx_types import element_type, free_inputs
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import Tensor

if TYPE_CHECKING:
    import onnx

# A protobuf can't be larger; MLflow's external data must fit into it once folded in.
_PROTOBUF_LIMIT = 2**31 - 1

# Element types that RedisAI's tensors lack, and the one that holds each of their values (uint64: those below 2**63).
_STAND_INS = {
    "FLOAT16": dtypes.FLOAT,
    "BFLOAT16": dtypes.FLOAT,
    "UINT32": dtypes.INT64,
    "UINT64": dtypes.INT64,
}


def finish(model: onnx.ModelProto, limits: ServerLimits, what: str) -> bytes:
    """Bring `model` within `limits`, check it, load it once, and return its bytes. Raise NotConvertible."""
    import onnx

    lowered = lower_versions(model, limits, what)
    try:
        blob = serialize(lowered, what)
        onnx.checker.check_model(blob)
    except onnx.checker.ValidationError as error:
        raise NotConvertible(f"{what} gives an ONNX graph that breaks the format: {first_line(error)}") from error
    load(blob, what)
    return blob


def serialize(model: onnx.ModelProto, what: str) -> bytes:
    """Return the model's bytes, weights included. Raise NotConvertible for more than a protobuf holds."""
    size = model.ByteSize()
    if size > _PROTOBUF_LIMIT:
        raise NotConvertible(f"{what} is {size >> 20} MB as ONNX, and a model of one piece can have 2047 MB at most")
    blob: bytes = model.SerializeToString()
    return blob


def load(model: bytes | str, what: str) -> Any:
    """
    Return an ONNX Runtime session on the CPU, of a model's bytes or of the file at a path.

    Raise NotConvertible with the reason if the model doesn't load.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NotConvertible(f"{what} gives an ONNX graph that ONNX Runtime refuses: {first_line(error)}") from error


# -- versions -------------------------------------------------------------------------------------


def lower_versions(model: onnx.ModelProto, limits: ServerLimits, what: str) -> onnx.ModelProto:
    """Lower operator sets and IR version to the limits, where the graph uses nothing newer."""
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    for imported in list(result.opset_import):
        limit = {"": limits.opset, "ai.onnx": limits.opset, "ai.onnx.ml": limits.ml_opset}.get(imported.domain)
        if limit is not None and imported.version > limit:
            result = _lower_domain(result, imported.domain, imported.version, limit, what)
    result.ir_version = min(result.ir_version, limits.ir_version)
    return result


def _lower_domain(model: onnx.ModelProto, domain: str, version: int, limit: int, what: str) -> onnx.ModelProto:
    from onnx import version_converter

    newer = _operators_newer_than(model, domain, version, limit)
    if newer and domain != "ai.onnx.ml":
        try:
            converted: onnx.ModelProto = version_converter.convert_version(model, limit)
        except Exception as error:
            raise _too_new(what, domain, version, limit, newer) from error
        newer = _operators_newer_than(converted, domain, limit, limit)
        if not newer:
            return converted
    if newer:
        raise _too_new(what, domain, version, limit, newer)
    for imported in model.opset_import:
        if imported.domain == domain:
            imported.version = limit
    return model


def _too_new(what: str, domain: str, version: int, limit: int, newer: list[str]) -> NotConvertible:
    return NotConvertible(
        f"{what} uses {', '.join(newer)} of {domain or 'ai.onnx'} opset {version}, but the server's ONNX Runtime loads "
        f"opset {limit} at most; export the model with opset {limit}, or deploy to a server with a newer ONNX Runtime"
    )


def _operators_newer_than(model: onnx.ModelProto, domain: str, version: int, limit: int) -> list[str]:
    """Return the operators whose definition at `version` is newer than `limit`."""
    import onnx

    found = {}
    for node in nodes(model.graph):
        if node.domain == domain:
            try:
                schema = onnx.defs.get_schema(node.op_type, version, domain)
            except onnx.defs.SchemaError:
                found[node.op_type] = True
                continue
            if schema.since_version > limit:
                found[node.op_type] = True
    return list(found)


def nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    """Yield every node, those inside loops and branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)
            for inner in attribute.graphs:
                yield from nodes(inner)


def depth(model: onnx.ModelProto) -> int:
    """Count the operations on the longest way through the graph."""
    level: dict[str, int] = {}
    for node in model.graph.node:
        below = max((level.get(name, 0) for name in node.input), default=0)
        for name in node.output:
            level[name] = below + 1
    return max(level.values(), default=1)


def precision(model: onnx.ModelProto) -> DType:
    """Return FLOAT if any number on the way is a float32 (or smaller), else DOUBLE."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    known = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    kinds = {element_type(item) for item in known}
    return dtypes.FLOAT if kinds & {"FLOAT", "FLOAT16", "BFLOAT16"} or "DOUBLE" not in kinds else dtypes.DOUBLE


# -- inputs and outputs ---------------------------------------------------------------------------


def cast_foreign_types(model: onnx.ModelProto) -> list[str]:
    """Put a Cast behind each input and before each output of a type that RedisAI lacks. Return notes on them."""
    notes = []
    for item in free_inputs(model):
        stand_in = _STAND_INS.get(element_type(item) or "")
        if stand_in is not None:
            notes.append(f"input {item.name} is {element_type(item)} in the model and taken as {stand_in.name}")
            cast_input(model, item, stand_in)
    for item in model.graph.output:
        stand_in = _STAND_INS.get(element_type(item) or "")
        if stand_in is not None:
            notes.append(f"output {item.name} is {element_type(item)} in the model and given as {stand_in.name}")
            _cast_output(model, item, stand_in)
    return notes


def cast_input(model: onnx.ModelProto, item: onnx.ValueInfoProto, dtype: DType) -> None:
    """Make the graph take `dtype` for an input and cast it to what the model wants."""
    import onnx

    inner = f"{item.name}__cast"
    for node in nodes(model.graph):
        for index, name in enumerate(node.input):
            if name == item.name:
                node.input[index] = inner
    wanted = item.type.tensor_type.elem_type
    model.graph.node.insert(0, onnx.helper.make_node("Cast", [item.name], [inner], to=wanted))
    item.type.tensor_type.elem_type = _onnx_type(dtype)


def _cast_output(model: onnx.ModelProto, item: onnx.ValueInfoProto, dtype: DType) -> None:
    import onnx

    inner = f"{item.name}__cast"
    for node in nodes(model.graph):
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == item.name:
                    names[index] = inner
    model.graph.node.append(onnx.helper.make_node("Cast", [inner], [item.name], to=_onnx_type(dtype)))
    item.type.tensor_type.elem_type = _onnx_type(dtype)


def _onnx_type(dtype: DType) -> int:
    import onnx

    if dtype.is_string:
        return int(onnx.TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype.numpy))


def drop_output(model: onnx.ModelProto, name: str) -> None:
    """Remove an output; ONNX Runtime drops what only it needed."""
    keep = [item for item in model.graph.output if item.name != name]
    del model.graph.output[:]
    model.graph.output.extend(keep)


def runner(blob: bytes, fetch: tuple[int, ...], what: str) -> Callable[[list[Tensor]], list[Tensor]]:
    """Return a function that runs the model on this machine as a server would: tensors in, fetched tensors out."""
    session = load(blob, what)
    inputs = [item.name for item in session.get_inputs()]
    outputs = [session.get_outputs()[index].name for index in fetch]

    def run(tensors: list[Tensor]) -> list[Tensor]:
        feed = {name: tensor.array() for name, tensor in zip(inputs, tensors, strict=True)}
        return [Tensor.from_array(np.asarray(array)) for array in session.run(outputs, feed)]

    return run
