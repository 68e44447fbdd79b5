"""
A traced TensorFlow function → what a server loads: an ONNX graph, a frozen GraphDef, or a TFLite model.

Each comes with a function that runs it on this machine as the server would. A converter's result is always inspected:
tf2onnx, for one, returns graphs with operators that ONNX lacks, and reports that only in its log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_redisai.errors import MissingConverter, NotConvertible, first_line
from mlflow_redisai.models import graph
from mlflow_redisai.models.base import Request
from mlflow_redisai.models.tensorflow.call import Traced, reason, to_tensor
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.codec.onnx_types import free_inputs
from redisai_engine.codec.prediction import Run
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import Tensor

if TYPE_CHECKING:
    import onnx

# The newest opset that tf2onnx writes. `graph.finish` then enforces the server's limit.
_TF2ONNX_OPSET = 18


@dataclass(frozen=True)
class TensorFlowExport:
    """
    A model for one backend. `run` runs it on this machine, and returns all outputs.

    `order` are the positions of the traced function's inputs that the model takes, in its order. A converter may leave
    out an unused input. `tf_inputs` and `tf_outputs` are names of operations, for the backend TF only.
    """

    blob: bytes
    order: tuple[int, ...]
    run: Run
    depth: int
    precision: DType
    tf_inputs: tuple[str, ...] = ()
    tf_outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def export(traced: Traced, request: Request) -> TensorFlowExport:
    """Convert for the request's backend. Raise NotConvertible, naming the operator that prevents it."""
    if request.backend == "ONNX":
        return _to_onnx(traced, request)
    frozen = _Frozen.of(traced, lower=True)
    return _to_graph_def(traced, frozen) if request.backend == "TF" else _to_tflite(traced, frozen)


# -- ONNX -----------------------------------------------------------------------------------------


def _to_onnx(traced: Traced, request: Request) -> TensorFlowExport:
    proto = _from_tf2onnx(traced, request.flavor, request.limits)
    _replace_erfc(proto)
    graph.refuse_negative_indexes(proto)
    unknown = _unknown_operators(proto)
    if unknown:
        raise NotConvertible(f"{traced.what} uses {', '.join(unknown)}, which ONNX has no operator for")
    names = [item.name for item in free_inputs(proto)]
    order = tuple(int(name.removeprefix("input_")) for name in names)
    _rename(proto, dict(zip(names, [traced.inputs[index].name for index in order], strict=True)))
    _rename(proto, dict(zip([item.name for item in proto.graph.output], traced.structure.names, strict=True)))
    notes = graph.cast_foreign_types(proto)
    blob = graph.finish(proto, request.limits, traced.what)
    run = graph.runner(blob, tuple(range(len(traced.outputs))), traced.what)
    return TensorFlowExport(blob, order, run, graph.depth(proto), graph.precision(proto), notes=tuple(notes))


def _from_tf2onnx(traced: Traced, flavor: str, limits: ServerLimits) -> onnx.ModelProto:
    try:
        import tf2onnx
    except ImportError as error:
        raise MissingConverter(flavor, "tf2onnx", "tensorflow") from error
    import tensorflow as tf

    # Convert the frozen function. In the traced one, tf2onnx turns captured values that aren't variables into inputs.
    frozen = _Frozen.of(traced, lower=False).function

    def call(*tensors: Any) -> Any:
        return frozen(*tensors)

    function = tf.function(call, autograph=False)
    proto: onnx.ModelProto
    try:
        proto, _ = tf2onnx.convert.from_function(function, list(traced.specs), opset=min(limits.opset, _TF2ONNX_OPSET))
    # tf2onnx passes on anything that its handlers raise, even KeyError and AssertionError.
    except Exception as error:
        raise NotConvertible(
            f"{traced.what} can't be converted to ONNX; tf2onnx doesn't know one of its operators "
            f"(tf2onnx: {reason(error)})"
        ) from error
    return proto


def _replace_erfc(proto: onnx.ModelProto) -> None:
    """Replace erfc(x), which TensorFlow's GELU uses and ONNX lacks, by 1 - erf(x), in place."""
    import onnx

    for index, node in reversed(list(enumerate(proto.graph.node))):
        if node.op_type != "Erfc":
            continue
        result = node.output[0]
        inner, one = f"{result}__erf", f"{result}__one"
        types = {item.name: item.type.tensor_type.elem_type for item in proto.graph.value_info}
        element = types.get(result) or types.get(node.input[0]) or onnx.TensorProto.FLOAT
        kind = onnx.helper.tensor_dtype_to_np_dtype(element)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((), kind), one))
        proto.graph.node.remove(node)
        proto.graph.node.insert(index, onnx.helper.make_node("Sub", [one, inner], [result]))
        proto.graph.node.insert(index, onnx.helper.make_node("Erf", [node.input[0]], [inner]))


def _unknown_operators(proto: onnx.ModelProto) -> list[str]:
    import onnx

    versions = {item.domain: item.version for item in proto.opset_import}
    found = {
        node.op_type
        for node in graph.nodes(proto.graph)
        if node.domain not in versions or not onnx.defs.has(node.op_type, versions[node.domain], node.domain)
    }
    return sorted(found)


def _rename(proto: onnx.ModelProto, names: dict[str, str]) -> None:
    """Rename inputs or outputs, in place, to the names that the user knows, unless another value has the name."""
    taken = {name for node in graph.nodes(proto.graph) for name in [*node.input, *node.output]}
    taken |= {item.name for item in [*proto.graph.input, *proto.graph.output, *proto.graph.initializer]}
    free = {old: new for old, new in names.items() if new not in taken}
    for node in graph.nodes(proto.graph):
        for group in (node.input, node.output):
            for index, name in enumerate(group):
                group[index] = free.get(name, name)
    for item in [*proto.graph.input, *proto.graph.output]:
        item.name = free.get(item.name, item.name)


# -- frozen graphs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Frozen:
    """A function whose variables have become constants. With `lower`, loops are written as in TensorFlow 1."""

    function: Any
    definition: Any
    depth: int
    precision: DType

    @classmethod
    def of(cls, traced: Traced, *, lower: bool) -> _Frozen:
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        try:
            function = convert_variables_to_constants_v2(
                traced.concrete, lower_control_flow=lower, aggressive_inlining=not lower
            )
        except Exception as error:
            # TensorFlow's error for a variable that is written, not only read.
            if "incompatible with expected resource" in str(error):
                raise NotConvertible(
                    f"{traced.what} changes its own variables when it is called, as stateful layers do, but a stored "
                    "model keeps no state between calls; log it without state"
                ) from error
            raise NotConvertible(
                f"{traced.what} can't be frozen; its variables can't become constants (TensorFlow: {reason(error)})"
            ) from error
        definition = _without_defaults(function.graph.as_graph_def())
        # What can't be frozen is left as an additional input.
        if len(function.inputs) != len(traced.inputs):
            raise NotConvertible(
                f"{traced.what} has a resource that can't become a constant ({', '.join(_keepers(definition))}), "
                "such as a lookup table; do that step before the model, and log the rest"
            )
        return cls(function, definition, _depth(definition.node), _precision(function.graph))


def _without_defaults(definition: Any) -> Any:
    """Return a graph without attributes at their defaults: an older TensorFlow refuses those that it doesn't know."""
    import tensorflow as tf
    from tensorflow.python.framework.meta_graph import strip_graph_default_valued_attrs

    meta = tf.compat.v1.MetaGraphDef()
    meta.graph_def.CopyFrom(definition)
    strip_graph_default_valued_attrs(meta)
    return meta.graph_def


def _keepers(definition: Any) -> list[str]:
    return sorted({node.op for node in definition.node if "Table" in node.op or "Resource" in node.op}) or ["resource"]


def _depth(nodes: Iterable[Any]) -> int:
    """Return the number of operations on the longest path, at least 1. Each node must come after those it needs."""
    level: dict[str, int] = {}
    for node in nodes:
        below = max((level.get(name.split(":")[0].removeprefix("^"), 0) for name in node.input), default=0)
        level[node.name] = below + (node.op not in {"Const", "Identity", "NoOp", "Placeholder"})
    return max(1, *level.values())


def _precision(tf_graph: Any) -> DType:
    kinds = {output.dtype.name for operation in tf_graph.get_operations() for output in operation.outputs}
    return dtypes.FLOAT if kinds & {"float32", "float16", "bfloat16"} or "float64" not in kinds else dtypes.DOUBLE


# -- TF -------------------------------------------------------------------------------------------


def _to_graph_def(traced: Traced, frozen: _Frozen) -> TensorFlowExport:
    inputs = [tensor.op.name for tensor in frozen.function.inputs]
    outputs = [tensor.op.name for tensor in frozen.function.outputs]
    known = [*(item.name for item in traced.inputs), *traced.structure.names]
    names = _operation_names(frozen.definition, [*inputs, *outputs], known)
    _rename_operations(frozen.definition, names)
    blob = frozen.definition.SerializeToString()
    tf_inputs, tf_outputs = tuple(names[name] for name in inputs), tuple(names[name] for name in outputs)
    run = _graph_runner(blob, tf_inputs, tf_outputs, traced.what)
    order = tuple(range(len(traced.inputs)))
    return TensorFlowExport(blob, order, run, frozen.depth, frozen.precision, tf_inputs, tf_outputs)


def _operation_names(definition: Any, operations: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Return the name to give each operation: the one that the user knows, as far as TensorFlow allows it."""
    taken = {node.name for node in definition.node}
    names = {}
    for operation, name in zip(operations, known, strict=True):
        allowed = re.sub(r"[^A-Za-z0-9_.]", "_", name).lstrip("_")
        names[operation] = operation if not allowed or allowed in taken else allowed
        taken.add(names[operation])
    return names


def _rename_operations(definition: Any, names: dict[str, str]) -> None:
    for node in definition.node:
        node.name = names.get(node.name, node.name)
        # An input is written as name, name:port, or ^name for an operation that only has to run first.
        for index, name in enumerate(node.input):
            base, mark, port = name.removeprefix("^").partition(":")
            if base in names:
                node.input[index] = ("^" if name.startswith("^") else "") + names[base] + mark + port


def _graph_runner(blob: bytes, inputs: Sequence[str], outputs: Sequence[str], what: str) -> Run:
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(blob)
    tf_graph = tf.Graph()
    try:
        with tf_graph.as_default():
            tf.import_graph_def(definition, name="")
        session = tf.compat.v1.Session(graph=tf_graph)
        feeds = [f"{name}:0" for name in inputs]
        call = session.make_callable([f"{name}:0" for name in outputs], feeds)
    except Exception as error:
        raise NotConvertible(f"TensorFlow refuses the graph of {what}: {reason(error)}") from error

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [to_tensor(value) for value in call(*[tensor.array() for tensor in tensors])]

    return run


# -- TFLITE ---------------------------------------------------------------------------------------


def _to_tflite(traced: Traced, frozen: _Frozen) -> TensorFlowExport:
    import tensorflow as tf

    try:
        blob = tf.lite.TFLiteConverter.from_concrete_functions([frozen.function]).convert()
    # TensorFlow Lite has only some of TensorFlow's operators. The converter's own error fills pages.
    except Exception as error:
        raise NotConvertible(f"{traced.what} can't be converted to TensorFlow Lite; {_tflite_reason(error)}") from error
    interpreter = _interpreter()(model_content=blob)
    details = interpreter.get_input_details()
    order = tuple(int(_plain(detail["name"]).removeprefix("input_")) for detail in details)
    run = _interpreter_runner(interpreter, traced.what)
    return TensorFlowExport(blob, order, run, frozen.depth, frozen.precision)


def _tflite_reason(error: BaseException) -> str:
    missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", str(error))))
    return (
        f"it lacks {', '.join(missing)}"
        if missing
        else f"it fails at one of its operators (TensorFlow: {reason(error)})"
    )


def _plain(name: str) -> str:
    """Return an input's own name. Some versions write input_0 as serving_default_input_0:0."""
    return name.removeprefix("serving_default_").split(":")[0]


def _interpreter() -> Callable[..., Any]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        # TensorFlow's own interpreter is deprecated in favour of LiteRT's.
        Interpreter = tf.lite.Interpreter
    found: Callable[..., Any] = Interpreter
    return found


def _interpreter_runner(interpreter: Any, what: str) -> Run:
    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        try:
            inputs = interpreter.get_input_details()
            for tensor, detail in zip(tensors, inputs, strict=True):
                interpreter.resize_tensor_input(detail["index"], tensor.shape)
            interpreter.allocate_tensors()
            for tensor, detail in zip(tensors, inputs, strict=True):
                interpreter.set_tensor(detail["index"], tensor.array())
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise NotConvertible(f"{what} can't be run as TensorFlow Lite: {first_line(error)}") from error
        return [to_tensor(interpreter.get_tensor(detail["index"])) for detail in interpreter.get_output_details()]

    return run
