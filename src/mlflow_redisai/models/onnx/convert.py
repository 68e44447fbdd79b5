"""
The flavor onnx: the graph, in one piece and within the server's limits, and the mapping that describes it.

The answer is pyfunc's: a frame of flattened outputs for a frame, a dict of arrays for any other input. skl2onnx by
default ends a classifier with a ZipMap, which makes a list of dicts that no tensor can hold. It is removed from the
graph, and the plugin makes the dicts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.models import graph
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.onnx.answers import Original, reference_of
from mlflow_redisai.models.rows import batch_notes, fixed_batch
from mlflow_redisai.models.signature import schema_of
from redisai_engine.codec.mapping import Answer, Container, Input, Mapping, Output, Part, Schema
from redisai_engine.codec.onnx_types import dtype_of, element_type, free_inputs, numpy_dtype_of, shape_of

if TYPE_CHECKING:
    import onnx

Labels = dict[str, tuple[int | str, ...]]


def convert(model: MlflowModel, request: Request) -> Deployable:
    """Convert an ONNX model, whose inputs and outputs keep their names. Raise NotConvertible."""
    what = f"the ONNX model {model.uri}"
    path = _file(model)
    proto = _read(path, what)
    kinds = {item.name: numpy_dtype_of(item) for item in free_inputs(proto) if element_type(item)}
    labels = _take_off_zipmaps(proto)
    wanted = {item.name: numpy_dtype_of(item) for item in proto.graph.output if element_type(item)}
    notes = graph.cast_foreign_types(proto)
    _check_tensors(proto, request, what)
    blob = graph.finish(proto, request.limits, what)
    mapping = describe(proto, schema_of(model.input_schema), request.outputs, wanted, labels)
    reference, told = reference_of(model, Original(path, mapping, kinds), chosen=bool(request.outputs))
    notes = [*notes, *told, *batch_notes(mapping.batch)]
    return Deployable("onnx", "ONNX", blob, mapping, reference, notes=tuple(notes))


def describe(
    proto: onnx.ModelProto,
    schema: Schema | None,
    chosen: tuple[str, ...],
    wanted: dict[str, str],
    labels: Labels,
) -> Mapping:
    """
    Build the mapping of a graph. Each input is filled from the field of its name, and a sole input from all columns.

    `chosen` names the outputs to answer with, () all of them. `wanted` are the numpy types of the answer and `labels`
    the keys of a ZipMap's dicts, both by the name of the output.
    """
    inputs = tuple(_input(item, index, schema, proto) for index, item in enumerate(free_inputs(proto)))
    outputs = tuple(Output(item.name, dtype_of(item), shape_of(item)) for item in proto.graph.output)
    names = [item.name for item in outputs]
    fetch = tuple(names.index(name) for name in chosen) if chosen else tuple(range(len(names)))
    parts = tuple(_part(outputs[index], wanted, labels) for index in fetch)
    return Mapping(
        inputs,
        outputs,
        fetch,
        Answer(_container(schema), parts),
        schema,
        fixed_batch(inputs),
        graph.depth(proto),
        graph.precision(proto),
    )


def _container(schema: Schema | None) -> Container:
    if schema is None:
        return "like input"
    return "dataframe" if schema.kind == "columns" else "dict"


def _part(output: Output, wanted: dict[str, str], labels: Labels) -> Part:
    return Part(output.name, wanted.get(output.name), labels=labels.get(output.name, ()))


def _input(item: Any, index: int, schema: Schema | None, proto: onnx.ModelProto) -> Input:
    fields: tuple[int, ...] = ()
    if schema is not None:
        fields = _fields(item.name, schema, len(free_inputs(proto)))
    return Input(item.name, dtype_of(item), shape_of(item), fields)


def _fields(name: str, schema: Schema, count: int) -> tuple[int, ...]:
    """Return the fields that fill an input: the one of its name, or, as in MLflow, all columns for the only input."""
    if name in schema.names():
        return (schema.names().index(name),)
    if count == 1:
        return tuple(range(len(schema.fields))) if schema.kind == "columns" else (0,)
    raise NotConvertible(
        f"the ONNX model takes a tensor {name!r}, which its signature doesn't have ({', '.join(schema.names())}); "
        "log it with a signature whose names are those of the model's inputs"
    )


# -- files ----------------------------------------------------------------------------------------


def _file(model: MlflowModel) -> Path:
    return model.path / str(model.configuration("onnx").get("data", "model.onnx"))


def _read(path: Path, what: str) -> onnx.ModelProto:
    import onnx

    if not path.is_file():
        raise NotConvertible(f"{what} has no file {path.name}, which its MLmodel names; log the model again")
    try:
        # Also reads weights from other files next to it.
        return onnx.load(str(path))
    except Exception as error:
        raise NotConvertible(f"{what} can't be read: {first_line(error)}") from error


# -- outputs --------------------------------------------------------------------------------------


def _take_off_zipmaps(proto: onnx.ModelProto) -> Labels:
    """Replace each output that is a ZipMap's list of dicts by the ZipMap's input. Return the dicts' keys by output."""
    found: Labels = {}
    outputs = {item.name: item for item in proto.graph.output}
    for node in list(proto.graph.node):
        if node.op_type == "ZipMap" and node.output[0] in outputs:
            found[node.output[0]] = _zipmap_labels(node)
            _as_matrix(proto, node, outputs[node.output[0]])
    return found


def _zipmap_labels(node: onnx.NodeProto) -> tuple[int | str, ...]:
    for attribute in node.attribute:
        if attribute.name == "classlabels_int64s" and attribute.ints:
            return tuple(attribute.ints)
        if attribute.name == "classlabels_strings" and attribute.strings:
            return tuple(text.decode() for text in attribute.strings)
    return ()


def _as_matrix(proto: onnx.ModelProto, node: onnx.NodeProto, item: onnx.ValueInfoProto) -> None:
    import onnx

    labels = _zipmap_labels(node)
    matrix = onnx.helper.make_tensor_value_info(item.name, onnx.TensorProto.FLOAT, [None, len(labels)])
    item.CopyFrom(matrix)
    proto.graph.node.remove(node)
    proto.graph.node.append(onnx.helper.make_node("Identity", [node.input[0]], [item.name]))


def _check_tensors(proto: onnx.ModelProto, request: Request, what: str) -> None:
    """Raise NotConvertible for an input or output that is no tensor. Drop such an output if the user chose others."""
    names = [item.name for item in proto.graph.output]
    for name in request.outputs:
        if name not in names:
            raise NotConvertible(f"{what} has no output {name!r}; it has {', '.join(names)}")
    for item in [*free_inputs(proto), *list(proto.graph.output)]:
        if dtype_of(item) is not None:
            continue
        if item.name in names and request.outputs and item.name not in request.outputs:
            graph.drop_output(proto, item.name)
            continue
        kind = element_type(item) or item.type.WhichOneof("value")
        raise NotConvertible(
            f"{what} has {item.name!r} of type {kind}, which RedisAI's tensors can't hold"
            + ("; choose other outputs with -C outputs=..." if item.name in names else "")
        )
