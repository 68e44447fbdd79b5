"""
Keras models of MLflow's flavors keras and tensorflow: Sequential, functional, subclassed, and exported ones.

The answer is pyfunc's: the result of Keras' own predict, in a frame if the input is a frame. With a signature of
columns it always is a frame, and with one of tensors never. In the flavor keras, pyfunc makes one array of the result:
several outputs of the same shape are stacked, and other outputs make it fail. Then the answer is Keras' list or dict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlflow_redisai.errors import MissingConverter, NotConvertible
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.signature import schema_of_example
from mlflow_redisai.models.tensorflow.call import CallingConvention, Traced, dtype_of, import_tensorflow, quiet, reason
from mlflow_redisai.models.tensorflow.conversion import TensorFlowConversion, finish, open_schema
from redisai_engine.codec.mapping import Container, Field, Input, Schema, Shape
from redisai_engine.protocol import dtypes

KerasCall = Callable[[Any], Any]


def convert(model: MlflowModel, request: Request) -> Deployable:
    """Convert a model of the flavor keras. Raise NotConvertible or MissingConverter."""
    return finish(keras_conversion(model, request.flavor), request)


def keras_conversion(model: MlflowModel, flavor: str) -> TensorFlowConversion:
    """Read a Keras model of either flavor. Raise NotConvertible or MissingConverter."""
    what = f"the Keras model {model.uri}"
    import_tensorflow(flavor)
    _check_backend(what, flavor)
    raw = _load(model, flavor, what)
    schema = open_schema(model)
    exported = bool(model.configuration(flavor).get("save_exported_model"))
    own = [] if exported else _own_inputs(raw, what)
    inputs = _inputs(schema or _schema_of_example(model, own, what), own)
    calls = _served(raw, schema) if exported else _called(raw, schema)
    conventions = tuple(
        _convention(each, call, predict, _types(schema, each))
        for each in _with_any_rows(inputs, own)
        for call, predict in calls
    )
    names = tuple(str(name) for name in getattr(raw, "output_names", None) or ())
    stacked = model.meta.flavors.get("python_function", {}).get("loader_module") == "mlflow.keras"
    return TensorFlowConversion(
        model, what, schema, conventions, names, lambda traced: _container(traced, schema, stacked=stacked)
    )


def _check_backend(what: str, flavor: str) -> None:
    try:
        import keras
    except ImportError as error:
        raise MissingConverter(flavor, "keras", "tensorflow") from error
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise NotConvertible(
            f"{what} can be converted only if Keras runs on TensorFlow, but here it runs on {backend}; "
            "set the environment variable KERAS_BACKEND=tensorflow"
        )


def _load(model: MlflowModel, flavor: str, what: str) -> Any:
    import mlflow

    try:
        with quiet():
            module = mlflow.keras if flavor == "keras" else mlflow.tensorflow
            return module.load_model(str(model.path))
    # Loading runs the code of custom layers, which may raise anything.
    except Exception as error:
        custom = re.search(r"Could not locate ((?:class|function) '[^']+')", str(error))
        if custom:
            raise NotConvertible(
                f"{what} can't be loaded: it needs {custom[1]}, which Keras doesn't know; "
                "log it with mlflow.tensorflow.log_model(..., custom_objects={...})"
            ) from error
        raise NotConvertible(f"{what} can't be loaded: {reason(error)}") from error


# -- inputs ---------------------------------------------------------------------------------------


def _own_inputs(raw: Any, what: str) -> list[Input]:
    """Return the inputs that the model itself describes, none for a subclassed model."""
    import tensorflow as tf

    return [
        Input(item.name, dtype_of(tf.as_dtype(item.dtype), what), tuple(item.shape))
        for item in getattr(raw, "inputs", None) or ()
    ]


def _schema_of_example(model: MlflowModel, own: Sequence[Input], what: str) -> Schema | None:
    """Return the input example's schema for a model that doesn't describe its inputs, else None."""
    if own:
        return None
    if model.input_example is None:
        raise NotConvertible(
            f"{what} has no signature and no input example, and doesn't describe its inputs itself; "
            "log it with input_example=..., from which MLflow infers the signature"
        )
    return schema_of_example(model.input_example, ())


def _inputs(schema: Schema | None, own: Sequence[Input]) -> tuple[Input, ...]:
    if schema is None:
        return tuple(own)
    if schema.kind == "columns":
        # pyfunc passes the frame's values to Keras: one matrix.
        together = dtypes.by_numpy(np.result_type(*[item.dtype.numpy for item in schema.fields])) or dtypes.DOUBLE
        return (Input("input", together, (None, len(schema.fields)), tuple(range(len(schema.fields)))),)
    return tuple(_input(item, index, own, len(schema.fields)) for index, item in enumerate(schema.fields))


def _input(item: Field, index: int, own: Sequence[Input], count: int) -> Input:
    by_name = {one.name: one for one in own}
    known = by_name.get(item.name or "") or (own[0] if len(own) == count == 1 else None)
    name = item.name or (known.name if known else "input")
    return Input(name, item.dtype, _closest(item.shape, known.shape if known else None), (index,))


def _closest(shape: Shape, own: Shape | None) -> Shape:
    """Return the signature's shape, with inner lengths that it leaves open taken from the model's own."""
    if own is None or len(own) != len(shape):
        return shape
    return (shape[0], *(told or known for told, known in zip(shape[1:], own[1:], strict=True)))


def _with_any_rows(inputs: tuple[Input, ...], own: Sequence[Input]) -> list[tuple[Input, ...]]:
    """Return the inputs for any number of rows, followed by those for the model's own number if it fixes one."""
    batches = {item.shape[0] for item in own if item.shape} - {None}
    rows = [None, *batches] if len(batches) == 1 else [None]
    return [
        tuple(replace(item, shape=(count, *item.shape[1:])) if item.shape else item for item in inputs)
        for count in rows
    ]


# -- calling ------------------------------------------------------------------------------------


def _called(raw: Any, schema: Schema | None) -> list[tuple[KerasCall, KerasCall | None]]:
    """
    Return pairs of a call of the model and Keras' predict, which both take a list of tensors.

    The model gets them as pyfunc passes them: a dict if the signature has names, else a tensor or a list.
    """
    forms: list[Callable[[Any], Any]] = [lambda tensors: tensors[0] if len(tensors) == 1 else tensors]
    if schema is not None and schema.kind == "tensors" and schema.named:
        names = schema.names()
        forms = [lambda tensors: dict(zip(names, tensors, strict=True)), *(forms if len(names) == 1 else [])]
    return [(_calling(raw, form), _predicting(raw, form)) for form in forms]


def _calling(raw: Any, form: KerasCall) -> KerasCall:
    return lambda tensors: raw(form(tensors), training=False)


def _predicting(raw: Any, form: KerasCall) -> KerasCall:
    return lambda tensors: raw.predict(form(tensors), verbose=0)


def _served(raw: Any, schema: Schema | None) -> list[tuple[KerasCall, KerasCall | None]]:
    """Return ways to call the only endpoint of an exported model, each with None: it has no predict."""
    calls: list[KerasCall] = [
        lambda tensors: raw.serve(tensors[0] if len(tensors) == 1 else tensors),
        lambda tensors: raw.serve(*tensors),
    ]
    if schema is not None and schema.named:
        names = schema.names()
        calls.append(lambda tensors: raw.serve(dict(zip(names, tensors, strict=True))))
    return [(call, None) for call in calls]


def _convention(
    inputs: tuple[Input, ...], call: KerasCall, predict: KerasCall | None, types: Sequence[str | None]
) -> CallingConvention:
    return CallingConvention(inputs, _with_casts(call, types), None if predict is None else _with_casts(predict, types))


def _types(schema: Schema | None, inputs: Sequence[Input]) -> list[str | None]:
    """Return the types in which pyfunc would pass the inputs to Keras: the signature's, which RedisAI may lack."""
    if schema is None or schema.kind == "columns":
        return [None] * len(inputs)
    return [None if item.dtype.is_string else item.type for item in schema.fields]


def _with_casts(call: KerasCall, types: Sequence[str | None]) -> KerasCall:
    import keras
    import tensorflow as tf

    def cast(tensor: Any, kind: str | None) -> Any:
        if kind is not None:
            tensor = tf.cast(tensor, kind)
        # Keras' predict casts all floating-point input to floatx before the model gets it.
        return tf.cast(tensor, keras.config.floatx()) if tensor.dtype.is_floating else tensor

    return lambda tensors: call([cast(*each) for each in zip(tensors, types, strict=True)])


# -- answers --------------------------------------------------------------------------------------


def _container(traced: Traced, schema: Schema | None, *, stacked: bool) -> tuple[Container, bool]:
    """Return the container of pyfunc's answer, and whether pyfunc can answer. `stacked`: it makes one array of all."""
    kind = traced.structure.kind
    if kind == "dict":
        # The flavor keras puts the dict into an array of one object.
        return "dict", not stacked
    if kind == "list":
        shapes = {output.shape for output in traced.outputs}
        return ("stack", True) if stacked and len(shapes) == 1 else ("list", not stacked)
    shape = traced.outputs[0].shape
    if schema is not None and schema.kind == "tensors":
        return "ndarray", True
    # A pandas frame has at most two dimensions.
    if shape is None or len(shape) > 2:
        return "ndarray", True
    return ("matrix like input" if schema is None else "matrix"), True
