"""
The flavors xgboost, lightgbm and catboost: a boosted model → an ONNX graph.

Each library's module reads its model into a `Boosted`, and `ensemble` writes the trees. This module adds the inputs,
assembles the graph, and tries it. The graph takes one matrix of numbers, or one tensor per column if the model stores
the values of categories.

The converters of onnxmltools are not used; decision 3 in docs/decisions lists their mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_redisai.errors import MissingConverter, NotConvertible
from mlflow_redisai.models import graph
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.native import load_native
from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.reference import NoReference, Reference
from mlflow_redisai.models.signature import matrix_dtype, schema_of, schema_of_example, tensor_name
from mlflow_redisai.models.trees.answers import chosen_reference, default_reference
from mlflow_redisai.models.trees.edges import edges_of
from mlflow_redisai.models.trees.ensemble import Boosted, write
from mlflow_redisai.models.trees.params import Asked, asked_of
from mlflow_redisai.models.trials.checks import checked, probes, with_outputs
from redisai_engine.codec.mapping import Answer, Field, Input, Mapping, Output, Part, Schema
from redisai_engine.codec.onnx_types import dtype_of, shape_of
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.dtypes import DType

if TYPE_CHECKING:
    import onnx

ModelReader = Callable[..., Boosted]

# The newest versions of ai.onnx and ai.onnx.ml that these graphs need. ai.onnx.ml 5 has other operators for trees. For
# a server of older versions, `graph.finish` lowers the trees.
NEWEST_NEEDED = (15, 3)

# The names of the graph's tensors.
_INPUT, _LABEL, _PROBABILITIES, _PREDICTION = "input", "label", "probabilities", "prediction"


@dataclass(frozen=True)
class BoostingConversion:
    """One conversion. `what` names the model in errors."""

    model: MlflowModel
    request: Request
    estimator: Any
    boosted: Boosted
    schema: Schema
    what: str

    @property
    def categories(self) -> list[int]:
        """The positions of the columns whose categories the model stores."""
        return list(self.boosted.categories)


def convert(model: MlflowModel, request: Request) -> Deployable:
    """
    Convert a boosted model. By default it answers as the library's `predict`, which pyfunc calls.

    Raise NotConvertible or MissingConverter.
    """
    conversion = _read(model, request)
    reference = default_reference(model, conversion.estimator, conversion.schema, conversion.categories)
    schema, inputs = probes(reference, conversion.schema, model.input_example, edges_of(conversion.boosted))
    conversion = replace(conversion, schema=schema)
    proto = _graph(conversion)
    blob = graph.finish(proto, request.limits, conversion.what)
    deployable = Deployable(request.flavor, "ONNX", blob, _mapping(proto, conversion), reference)
    deployable = checked(deployable, inputs, conversion.what)
    return _with_outputs(conversion, deployable, inputs) if request.outputs else deployable


def _with_outputs(conversion: BoostingConversion, deployable: Deployable, inputs: list[Any]) -> Deployable:
    def own(outputs: Sequence[Output]) -> Reference | NoReference:
        return chosen_reference(
            conversion.model, conversion.estimator, conversion.schema, conversion.categories, outputs
        )

    return with_outputs(deployable, conversion.request.outputs, own, inputs, conversion.what)


def reader(library: str) -> ModelReader:
    """Return the function that reads models of a library."""
    found: ModelReader = import_module(f"mlflow_redisai.models.trees.{library}").read
    return found


def _read(model: MlflowModel, request: Request) -> BoostingConversion:
    flavor = request.flavor
    try:
        import_module(flavor)
    except ImportError as error:
        raise MissingConverter(flavor, flavor, flavor) from error
    _check_format(model, flavor)
    estimator = load_native(model, flavor)
    what = f"the {flavor} model {type(estimator).__name__}"
    declared = schema_of(model.input_schema)
    try:
        asked = asked_of(model, flavor, estimator)
        options = {} if asked == Asked() else {"asked": asked}
        boosted = reader(flavor)(estimator, declared or _schema_of_example(model), **options)
    except NotConvertible as problem:
        raise NotConvertible(f"{what} can't be converted to ONNX: {problem.message}") from problem
    schema = declared or _schema_without_signature(model, boosted)
    conversion = BoostingConversion(model, request, estimator, boosted, schema, what)
    _check_columns(conversion)
    return conversion


def _check_format(model: MlflowModel, flavor: str) -> None:
    """Raise NotConvertible for a format from which CatBoost reads only what it predicts with, and may crash later."""
    found = model.configuration(flavor).get("save_format", "cbm")
    if flavor == "catboost" and found not in {"cbm", "json"}:
        raise NotConvertible(
            f"the catboost model was saved in the format {found}, which loses its description; save it with "
            "format='cbm', MLflow's default"
        )


def _schema_of_example(model: MlflowModel) -> Schema:
    """Return what the input example shows of the columns, nothing if there is none."""
    if model.input_example is None:
        return Schema("columns", ())
    from mlflow.models.signature import infer_signature

    return schema_of(infer_signature(model.input_example).inputs) or Schema("columns", ())


def _schema_without_signature(model: MlflowModel, boosted: Boosted) -> Schema:
    """Return the input example's schema, or else one of numbers; named as in training if it had names."""
    shown = None if model.input_example is None else schema_of_example(model.input_example, boosted.names)
    if shown is not None:
        return shown
    if boosted.names:
        return Schema("columns", tuple(Field(name, "double", dtypes.DOUBLE) for name in boosted.names))
    return Schema("tensors", (Field(None, "float64", dtypes.DOUBLE, (None, boosted.columns)),))


def _check_columns(conversion: BoostingConversion) -> None:
    """
    Raise NotConvertible for a signature that can't fill the model's columns.

    That is a named tensor, another number of columns, or text where the model has no categories.
    """
    schema, columns = conversion.schema, conversion.boosted.columns
    if schema.kind == "tensors":
        only = schema.fields[0]
        if schema.named or len(only.shape) != 2 or only.shape[1] not in {columns, None}:
            raise NotConvertible(
                f"{conversion.what} was trained on {columns} columns; its signature must have these columns, or one "
                f"unnamed tensor of shape (-1, {columns})"
            )
        return
    if len(schema.fields) != columns:
        raise NotConvertible(
            f"{conversion.what} was trained on {columns} columns, but its signature has {len(schema.fields)}"
        )
    for index, item in enumerate(schema.fields):
        if item.dtype.is_string and index not in conversion.boosted.categories:
            raise NotConvertible(
                f"{conversion.what} keeps no categories for the text column {tensor_name(item.name, index)!r}; "
                "make it a pandas categorical before training (XGBoost keeps categories from 3.1 on)"
            )


# -- the graph ------------------------------------------------------------------------------------


def _graph(conversion: BoostingConversion) -> onnx.ModelProto:
    import onnx

    nodes = Nodes()
    inputs = _inputs(conversion)
    source = _columns(conversion, nodes, inputs) if conversion.boosted.categories else _INPUT
    names = (_PREDICTION, "") if conversion.boosted.classes is None else (_LABEL, _PROBABILITIES)
    opset, ml_opset = min(conversion.request.limits.opset, NEWEST_NEEDED[0]), NEWEST_NEEDED[1]
    write(conversion.boosted, nodes, source, names, ml_opset)
    made = onnx.helper.make_graph(
        nodes.nodes,
        conversion.request.flavor,
        [_value_info(item.name, item.dtype, item.shape) for item in inputs],
        _outputs(conversion.boosted, names),
        nodes.constants,
    )
    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("ai.onnx.ml", ml_opset)]
    return onnx.helper.make_model(made, opset_imports=opsets, producer_name="mlflow-redisai")


def _inputs(conversion: BoostingConversion) -> tuple[Input, ...]:
    schema = conversion.schema
    if conversion.boosted.categories:
        return tuple(
            Input(tensor_name(item.name, index), item.dtype, (None, 1), (index,))
            for index, item in enumerate(schema.fields)
        )
    fields = tuple(range(len(schema.fields)))
    return (Input(_INPUT, matrix_dtype(schema), (None, conversion.boosted.columns), fields),)


def _columns(conversion: BoostingConversion, nodes: Nodes, inputs: tuple[Input, ...]) -> str:
    """Add nodes that join all columns into one matrix, with categories as their codes."""
    number = np.float32 if conversion.boosted.reads_float32 else np.float64
    made = []
    for index, item in enumerate(inputs):
        source = item.name
        known = conversion.boosted.categories.get(index)
        if known is not None:
            source = _codes(nodes, source, item.dtype, known)
        made.append(nodes.cast(source, number))
    return nodes.add("Concat", *made, axis=1)


def _codes(nodes: Nodes, source: str, dtype: DType | None, known: tuple[Any, ...]) -> str:
    """Add nodes that look up each category's code. A category that the model never saw becomes a gap."""
    codes = [float(code) for code in range(len(known))]
    if dtype is not None and dtype.is_string:
        keys: dict[str, Any] = {"keys_strings": [str(value) for value in known]}
    else:
        source = nodes.cast(source, np.int64)
        keys = {"keys_int64s": [int(value) for value in known]}
    return nodes.add(
        "LabelEncoder", source, domain="ai.onnx.ml", values_floats=codes, default_float=float("nan"), **keys
    )


def _value_info(name: str, dtype: DType | None, shape: Any) -> onnx.ValueInfoProto:
    import onnx

    if dtype is None or dtype.is_string:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.STRING, shape)
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype.numpy), shape)


def _outputs(boosted: Boosted, names: tuple[str, str]) -> list[onnx.ValueInfoProto]:
    first, second = names
    scores = len(boosted.base)
    if boosted.classes is None:
        shape = [None] if boosted.link == "argmax" else [None, scores]
        dtype = dtypes.DOUBLE if boosted.weights is not None and boosted.sums_float64 else dtypes.FLOAT
        return [_value_info(first, dtype, shape)]
    labels = np.asarray(boosted.classes.tolist())
    kinds = {"U": dtypes.STRING, "f": dtypes.DOUBLE}
    label = _value_info(
        first, kinds.get(labels.dtype.kind, dtypes.INT64), [None, scores] if boosted.a_label_a_target else [None]
    )
    return [label, _value_info(second, dtypes.FLOAT, [None, max(scores, 2)])]


def _mapping(proto: onnx.ModelProto, conversion: BoostingConversion) -> Mapping:
    outputs = tuple(Output(item.name, dtype_of(item), shape_of(item)) for item in proto.graph.output)
    return Mapping(
        _inputs(conversion),
        outputs,
        (0,),
        Answer("ndarray", (_expected_part(conversion, outputs[0]),)),
        conversion.schema,
        depth=graph.depth(proto),
        precision=graph.precision(proto),
    )


def _expected_part(conversion: BoostingConversion, output: Output) -> Part:
    """Return the part of the answer that pyfunc is expected to give. The model's answer to a probe overrides it."""
    classes = conversion.boosted.classes
    if classes is not None:
        return Part(output.name, classes.dtype.str if classes.dtype.kind == "U" else classes.dtype.name)
    dtype = "float32" if conversion.request.flavor == "xgboost" else "float64"
    return Part(output.name, dtype, (-1,) if len(conversion.boosted.base) == 1 else None)
