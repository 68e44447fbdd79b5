"""
The flavor tensorflow: Keras models, SavedModels of a tf.Module, and SavedModels in the layout of MLflow 1.

- For a tf.Module, pyfunc's answer is the result of calling it with one array, or with a frame's values. A module that
  can't be called like this is deployed with its serving signature, and answers with a dict of arrays by name.
- A SavedModel of the older layout has tags and the key of a signature. pyfunc answers a frame with a frame, and other
  input with a dict. It flattens an output with one value per row, and makes lists of any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.tensorflow.call import CallingConvention, Traced, dtype_of, import_tensorflow, quiet, reason
from mlflow_redisai.models.tensorflow.conversion import TensorFlowConversion, finish, open_schema
from mlflow_redisai.models.tensorflow.keras import keras_conversion
from redisai_engine.codec.mapping import Container, Field, Input, Schema
from redisai_engine.protocol import dtypes

# TensorFlow's name for the default signature.
_DEFAULT_SIGNATURE = "serving_default"


def convert(model: MlflowModel, request: Request) -> Deployable:
    """Convert a model of the flavor tensorflow. Raise NotConvertible or MissingConverter."""
    import_tensorflow(request.flavor)
    told = model.configuration(request.flavor)
    if told.get("model_type") == "keras":
        return finish(keras_conversion(model, request.flavor), request)
    conversion = _signature_conversion(model, told) if "signature_def_key" in told else _module_conversion(model, told)
    return finish(conversion, request)


def _load(model: MlflowModel, told: dict[str, Any], what: str) -> Any:
    import tensorflow as tf

    folder = model.path / str(told.get("saved_model_dir", "tf2model"))
    try:
        with quiet():
            return tf.saved_model.load(str(folder), tags=told.get("meta_graph_tags"))
    except Exception as error:
        raise NotConvertible(f"{what} can't be loaded: {reason(error)}") from error


# -- tf.Module ------------------------------------------------------------------------------------


def _module_conversion(model: MlflowModel, told: dict[str, Any]) -> TensorFlowConversion:
    what = f"the TensorFlow model {model.uri}"
    raw = _load(model, told, what)
    schema = open_schema(model)
    if callable(raw) and not (schema is not None and schema.named):
        conventions = _module_conventions(raw, schema, what)
        if conventions:
            return TensorFlowConversion(
                model, what, schema, tuple(conventions), (), lambda traced: (_kind(traced), True)
            )
    signatures = dict(raw.signatures)
    if not signatures:
        raise NotConvertible(
            f"{what} can't be called with one tensor and has no signatures; save it with "
            "saved_model_kwargs={'signatures': ...}, or give its __call__ an input_signature"
        )
    function = signatures.get(_DEFAULT_SIGNATURE) or next(iter(signatures.values()))
    conventions = [_signature_convention(raw, function, schema, what)]
    return TensorFlowConversion(model, what, schema, tuple(conventions), (), lambda _: ("dict", False))


def _kind(traced: Traced) -> Container:
    kind = traced.structure.kind
    return "ndarray" if kind == "tensor" else kind


def _module_conventions(raw: Any, schema: Schema | None, what: str) -> list[CallingConvention]:
    """
    Return ways to call the module with its only tensor: with the signature's shape, then with those it was saved for.

    There are none for a signature of columns.
    """
    own = _own_inputs(raw.__call__, what)
    if schema is None:
        return [CallingConvention((item,), _caller(raw, item, None)) for item in own]
    if schema.kind == "columns":
        return []
    field = schema.fields[0]
    wanted = Input("input", field.dtype, field.shape, (0,))
    kind = None if field.dtype.is_string else field.type
    fixed = [replace(wanted, name=item.name, shape=item.shape) for item in own if item.shape is not None]
    fixed = [item for item in fixed if len(item.shape or ()) == len(field.shape)]
    return [CallingConvention((item,), _caller(raw, item, kind)) for item in [wanted, *fixed]]


def _caller(raw: Any, item: Input, kind: str | None) -> Callable[[list[Any]], Any]:
    import tensorflow as tf

    return lambda tensors: raw(tensors[0] if kind is None else tf.cast(tensors[0], kind))


def _own_inputs(function: Any, what: str) -> list[Input]:
    """Return the input of each saved form of a function that takes one tensor, the one with most open lengths first."""
    import tensorflow as tf

    found = []
    for concrete in getattr(function, "concrete_functions", ()):
        specs = [
            spec for spec in tf.nest.flatten(concrete.structured_input_signature) if isinstance(spec, tf.TensorSpec)
        ]
        if len(specs) == 1:
            found.append(_input(specs[0].name or "input", specs[0], what))
    return sorted(found, key=lambda item: -(item.shape or ()).count(None))


def _input(name: str, spec: Any, what: str) -> Input:
    shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
    return Input(name, dtype_of(spec.dtype, what), shape)


# -- signatures -----------------------------------------------------------------------------------


def _signature_conversion(model: MlflowModel, told: dict[str, Any]) -> TensorFlowConversion:
    what = f"the TensorFlow model {model.uri}"
    raw = _load(model, told, what)
    key = str(told["signature_def_key"])
    signatures = dict(raw.signatures)
    if key not in signatures:
        raise NotConvertible(f"{what} has no signature {key!r}; it has {', '.join(signatures) or 'none'}")
    container = _listed(open_schema(model))
    # Without a signature of MLflow, the SavedModel's own says how the cells of a frame are laid out.
    schema = open_schema(model) or _own_schema(signatures[key], what)
    convention = _signature_convention(raw, signatures[key], schema, what)
    return TensorFlowConversion(model, what, schema, (convention,), (), lambda _: (container, True))


def _own_schema(function: Any, what: str) -> Schema | None:
    specs = function.structured_input_signature[1]
    if any(spec.shape.rank is None for spec in specs.values()):
        return None
    fields = []
    for name in sorted(specs):
        known = _input(name, specs[name], what)
        fields.append(
            Field(
                name,
                "string" if known.dtype is dtypes.STRING else specs[name].dtype.name,
                known.dtype or dtypes.FLOAT,
                known.shape or (),
            )
        )
    return Schema("tensors", tuple(fields))


def _listed(schema: Schema | None) -> Container:
    if schema is None:
        return "cells like input"
    return "cells" if schema.kind == "columns" else "listed"


def _signature_convention(raw: Any, function: Any, schema: Schema | None, what: str) -> CallingConvention:
    """Return how to call a signature: with tensors by name, each filled from the schema's field of that name."""
    import tensorflow as tf

    specs = function.structured_input_signature[1]
    order = [*(schema.names() if schema is not None else ())]
    names = sorted(specs, key=lambda name: (order.index(name) if name in order else len(order), name))
    inputs = []
    for name in names:
        known = _input(name, specs[name], what)
        inputs.append(known if schema is None else _filled(known, schema, what))

    def call(tensors: list[Any]) -> Any:
        # Naming `raw` keeps the model alive, as a signature has only weak references to its variables.
        assert raw is not None
        fed = {
            name: tf.cast(tensor, specs[name].dtype) if specs[name].dtype != tf.string else tensor
            for name, tensor in zip(names, tensors, strict=True)
        }
        return function(**fed)

    return CallingConvention(tuple(inputs), call)


def _filled(known: Input, schema: Schema, what: str) -> Input:
    """Return an input filled from the field of its name, or from the only field. Raise NotConvertible."""
    names = schema.names()
    if known.name not in names and len(schema.fields) > 1:
        raise NotConvertible(
            f"{what} takes a tensor {known.name!r}, which its signature doesn't have ({', '.join(names)}); "
            "log it with a signature whose names are those of the model's inputs"
        )
    index = names.index(known.name) if known.name in names else 0
    return replace(known, dtype=schema.fields[index].dtype, fields=(index,))
