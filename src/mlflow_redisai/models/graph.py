"""
Operations on ONNX graphs of any origin: bring them within the server's limits, check them, run them.

Nothing here knows MLflow's flavors. In every function, `what` names the model in error texts.

Invariant: a model that `finish` returns is within the limits, has passed onnx.checker, and was loaded by ONNX Runtime
on this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.models.lowering.inference import inferred_graph
from mlflow_redisai.models.lowering.kernels import fit_kernels
from mlflow_redisai.models.lowering.trees import TREES, lower_trees, lowers_trees
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.codec.onnx_types import element_type, free_inputs
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import Tensor

if TYPE_CHECKING:
    import onnx

# What ONNX Runtime's errors begin with, such as "[ONNXRuntimeError] : 10 : INVALID_GRAPH : ".
_KIND = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")

# An index that no axis has, and that fits into int32.
_BEYOND = 2**31 - 1

# For each element type that RedisAI's tensors lack, one that holds all its values (of uint64, those below 2**63).
_STAND_INS = {
    "FLOAT16": dtypes.FLOAT,
    "BFLOAT16": dtypes.FLOAT,
    "UINT32": dtypes.INT64,
    "UINT64": dtypes.INT64,
}


def finish(model: onnx.ModelProto, limits: ServerLimits, what: str) -> bytes:
    """Return the bytes of `model`, brought within `limits`, checked, and loaded once. Raise NotConvertible."""
    import onnx

    lowered = lower_versions(model, limits, what)
    fit_kernels(lowered, limits.kernels, what)
    try:
        blob = serialize(lowered, what)
        onnx.checker.check_model(blob)
    except onnx.checker.ValidationError as error:
        raise NotConvertible(f"the ONNX graph of {what} is invalid: {first_line(error)}") from error
    load(blob, what)
    return blob


def serialize(model: onnx.ModelProto, what: str) -> bytes:
    """Return the model's bytes, weights included. Raise NotConvertible if it exceeds the limit of Protocol Buffers."""
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    try:
        blob: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as error:  # to count the bytes first would fail in the same way
        raise NotConvertible(f"{what} is larger as ONNX than a model in one piece can be, which is 2047 MiB") from error
    return blob


def load(model: bytes | str, what: str) -> Any:
    """
    Return an ONNX Runtime session on the CPU for a model's bytes, or for the file at a path.

    Raise NotConvertible with ONNX Runtime's reason if the model doesn't load.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NotConvertible(
            f"ONNX Runtime can't load the ONNX graph of {what}; it has an operator, or types for one, that the library "
            f"doesn't know (ONNX Runtime: {reason_of(error)})"
        ) from error


def reason_of(error: BaseException) -> str:
    """Return the first line of a library's reason, without the kind of error that ONNX Runtime puts before it."""
    return _KIND.sub("", first_line(error)).rstrip(".")


# -- versions -------------------------------------------------------------------------------------


def lower_versions(model: onnx.ModelProto, limits: ServerLimits, what: str) -> onnx.ModelProto:
    """
    Return a copy of `model` whose operator sets and IR version are at most those of the limits.

    Newer operators are rewritten where onnx's version converter can. Raise NotConvertible, naming those that it can't.
    """
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
        # The version converter may leave operators that don't exist in the older opset.
        newer = _operators_newer_than(converted, domain, limit, limit)
        if not newer:
            return converted
    if newer:
        raise _too_new(what, domain, version, limit, newer)
    # No definition in use changed since `limit`, except that of trees, so only the number has to be lowered.
    if lowers_trees(domain, version, limit):
        lower_trees(model.graph)
    for imported in model.opset_import:
        if imported.domain == domain:
            imported.version = limit
    return model


def _too_new(what: str, domain: str, version: int, limit: int, newer: list[str]) -> NotConvertible:
    return NotConvertible(
        f"{what} uses {', '.join(newer)} of {domain or 'ai.onnx'} opset {version}, but the server's ONNX Runtime loads "
        f"at most opset {limit}; export the model with opset {limit}, or deploy to a server with a newer ONNX Runtime"
    )


def _operators_newer_than(model: onnx.ModelProto, domain: str, version: int, limit: int) -> list[str]:
    """Return the operators of `domain` that opset `version` lacks or whose definition changed after opset `limit`."""
    import onnx

    found = {}
    for node in nodes(model.graph):
        if node.domain == domain:
            try:
                schema = onnx.defs.get_schema(node.op_type, version, domain)
            except onnx.defs.SchemaError:
                found[node.op_type] = True
                continue
            if schema.since_version > limit and not (node.op_type in TREES and lowers_trees(domain, version, limit)):
                found[node.op_type] = True
    return list(found)


def nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    """Yield every node, including those inside loops and branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)
            for inner in attribute.graphs:
                yield from nodes(inner)


def depth(model: onnx.ModelProto) -> int:
    """Return the number of operations on the longest path through the graph, at least 1."""
    level: dict[str, int] = {}
    for node in model.graph.node:
        below = max((level.get(name, 0) for name in node.input), default=0)
        for name in node.output:
            level[name] = below + 1
    return max(level.values(), default=1)


def precision(model: onnx.ModelProto) -> DType:
    """Return DOUBLE if the graph computes in float64 and nowhere in a narrower floating point, else FLOAT."""
    inferred = inferred_graph(model)
    known = [*inferred.value_info, *inferred.output, *inferred.input]
    kinds = {element_type(item) for item in known}
    return dtypes.FLOAT if kinds & {"FLOAT", "FLOAT16", "BFLOAT16"} or "DOUBLE" not in kinds else dtypes.DOUBLE


# -- inputs and outputs ---------------------------------------------------------------------------


def cast_foreign_types(model: onnx.ModelProto) -> list[str]:
    """Add a Cast after each input and before each output whose type RedisAI lacks. Return notes for the user."""
    notes = []
    for item in free_inputs(model):
        stand_in = _STAND_INS.get(element_type(item) or "")
        if stand_in is not None:
            notes.append(f"input {item.name} is {element_type(item)} in the model, and is sent as {stand_in.name}")
            cast_input(model, item, stand_in)
    for item in model.graph.output:
        stand_in = _STAND_INS.get(element_type(item) or "")
        if stand_in is not None:
            notes.append(f"output {item.name} is {element_type(item)} in the model, and is received as {stand_in.name}")
            _cast_output(model, item, stand_in)
    return notes


def cast_input(model: onnx.ModelProto, item: onnx.ValueInfoProto, dtype: DType) -> None:
    """Change the graph, in place, to take `dtype` for an input and cast it to the type that the model wants."""
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
    # Inputs are renamed as well: a node may read a tensor that is also an output.
    for node in nodes(model.graph):
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == item.name:
                    names[index] = inner
    model.graph.node.append(onnx.helper.make_node("Cast", [inner], [item.name], to=_onnx_type(dtype)))
    item.type.tensor_type.elem_type = _onnx_type(dtype)


def refuse_negative_indexes(model: onnx.ModelProto) -> None:
    """
    Change lookups of weights, in place, to fail for a negative index, which in ONNX counts from the end.

    For other frameworks' embeddings it is an error. The index becomes one beyond the end, which ONNX Runtime refuses.
    """
    import onnx

    kinds = {item.name: len(item.dims) for item in model.graph.initializer}
    found = [node for node in model.graph.node if node.op_type == "Gather" and kinds.get(node.input[0], 0) > 1]
    for node in [node for node in found if node.input[1] not in kinds]:
        name = f"{node.output[0]}__index"
        make, to = onnx.helper.make_node, onnx.TensorProto.INT64
        for suffix, value in (("zero", 0), ("beyond", _BEYOND)):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), f"{name}_{suffix}"))
        guards = [
            make("Cast", [node.input[1]], [f"{name}_whole"], to=to),
            make("Less", [f"{name}_whole", f"{name}_zero"], [f"{name}_negative"]),
            make("Where", [f"{name}_negative", f"{name}_beyond", f"{name}_whole"], [name]),
        ]
        place = list(model.graph.node).index(node)
        node.input[1] = name
        for offset, guard in enumerate(guards):
            model.graph.node.insert(place + offset, guard)


def _onnx_type(dtype: DType) -> int:
    import onnx

    if dtype.is_string:
        return int(onnx.TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype.numpy))


def drop_output(model: onnx.ModelProto, name: str) -> None:
    """Remove an output. Its nodes stay; ONNX Runtime prunes those that nothing else needs."""
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
