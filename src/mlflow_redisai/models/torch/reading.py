"""
A logged PyTorch model → a module, how it is called, and the schema of its input.

Nothing here runs or converts the module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.signature import schema_of, schema_of_example
from mlflow_redisai.models.torch import pt2
from mlflow_redisai.models.torch.call import ModuleCall, untyped_torch
from redisai_engine.codec.mapping import Answer, Field, Input, Mapping, Schema, Shape
from redisai_engine.protocol import dtypes


@dataclass(frozen=True)
class TorchConversion:
    """
    A model after reading: how it is called, and how the user's input becomes its tensors.

    `program` is the torch.export program that the module came from, or None. `enforced`: the model has a signature,
    which MLflow enforces. `checked`: the module still has the guards that torch.export gave it, if any.
    """

    model: MlflowModel
    call: ModuleCall
    schema: Schema
    example: Any
    program: Any
    enforced: bool
    checked: bool = True

    def mapping(self) -> Mapping:
        """Return a mapping that can only encode."""
        return Mapping(self.call.inputs, (), (), Answer("list", ()), self.schema, self.call.batch)


# -- reading the model ----------------------------------------------------------------------------


def read(model: MlflowModel) -> TorchConversion:
    what = f"the PyTorch model {model.uri}"
    data = model.path / str(model.configuration("pytorch").get("model_data", "data"))
    module, program = _load(model, data, what)
    example = model.input_example
    if example is None and program is not None:
        example = _own_example(program, model)
    schema = schema_of(model.input_schema) or _schema_of_example(example, module, what)
    shapes = None if program is None else pt2.shapes(program)
    call = _call(module, schema, shapes, what)
    return TorchConversion(model, call, _any_rows(schema), example, program, model.input_schema is not None)


def _load(model: MlflowModel, data: Path, what: str) -> tuple[Any, Any]:
    """Return the module, and the torch.export program that it was made from, or None."""
    import mlflow.pytorch

    is_program = pt2.file_of(data).is_file()
    # A pickle is loaded as pyfunc loads it. Since torch 2.6, torch's own default is weights_only=True.
    options = {} if is_program else {"weights_only": False, "map_location": "cpu"}
    try:
        module = mlflow.pytorch.load_model(str(model.path), **options)
        return module, pt2.load(data) if is_program else None
    # Unpickling runs the module's own code, which may raise anything.
    except Exception as error:
        raise NotConvertible(f"{what} can't be loaded: {first_line(error)}") from error


def _own_example(program: Any, model: MlflowModel) -> Any:
    """Return the inputs that the program was exported with, as the signature's dict or array, or None."""
    arrays = pt2.example(program)
    schema = schema_of(model.input_schema)
    if arrays is None or schema is None or len(arrays) != len(schema.fields):
        return None
    return dict(zip(schema.names(), arrays, strict=True)) if schema.named else arrays[0]


def _schema_of_example(example: Any, module: Any, what: str) -> Schema:
    if example is None:
        raise NotConvertible(
            f"{what} has no signature and no input example, so its inputs are unknown; "
            "log it with input_example=..., from which MLflow infers the signature"
        )
    found = schema_of_example(example, ())
    assert found is not None  # MLflow infers a schema for every example that it can store
    weights = {str(tensor.dtype) for tensor in module.parameters()}
    if found.kind == "columns" or "torch.float64" in weights:
        return found
    # MLflow stores an example as JSON, which has no float32. Only float64 weights show that float64 input is meant.
    return replace(found, fields=tuple(_as_float32(item) for item in found.fields))


def _as_float32(item: Field) -> Field:
    return replace(item, type="float32", dtype=dtypes.FLOAT) if item.dtype is dtypes.DOUBLE else item


def _any_rows(schema: Schema) -> Schema:
    """Return the schema for any number of rows, even if the signature fixes it: the plugin splits and pads requests."""
    fields = [replace(item, shape=(None, *item.shape[1:])) if item.shape else item for item in schema.fields]
    return replace(schema, fields=tuple(fields))


# -- how the module is called ---------------------------------------------------------------------


def _call(module: Any, schema: Schema, shapes: list[Shape] | None, what: str) -> ModuleCall:
    inputs, casts = _columns(schema, what) if schema.kind == "columns" else _tensors(schema)
    if shapes is not None:
        if len(shapes) != len(inputs):
            raise NotConvertible(f"{what} takes {len(shapes)} tensors, but its signature has {len(inputs)}")
        inputs = tuple(
            replace(item, shape=_narrower(item, shape, what)) for item, shape in zip(inputs, shapes, strict=True)
        )
    batches = {item.shape[0] for item in inputs if item.shape} - {None}
    keywords = None if shapes is not None or not schema.named or schema.kind == "columns" else _keywords(module, schema)
    return ModuleCall(what, module, inputs, keywords, casts, batches.pop() if len(batches) == 1 else None)


def _columns(schema: Schema, what: str) -> tuple[tuple[Input, ...], tuple[str | None, ...]]:
    """Return one input for all columns: a matrix, which is cast to float32 as pyfunc does."""
    for item in schema.fields:
        if item.dtype.is_string:
            raise NotConvertible(f"{what} has the text column {item.name!r}, but PyTorch has no tensors of text")
    together = dtypes.by_numpy(np.result_type(*[item.dtype.numpy for item in schema.fields])) or dtypes.DOUBLE
    matrix = Input("input", together, (None, len(schema.fields)), tuple(range(len(schema.fields))))
    return (matrix,), ("float32",)


def _tensors(schema: Schema) -> tuple[tuple[Input, ...], tuple[str | None, ...]]:
    inputs = [Input(item.name or "input", item.dtype, item.shape, (index,)) for index, item in enumerate(schema.fields)]
    return tuple(inputs), tuple(_cast(item) for item in schema.fields)


def _cast(item: Field) -> str | None:
    """Return the signature's type if RedisAI's tensors lack it, so that a cast must restore it; else None."""
    return None if np.dtype(item.type) == item.dtype.numpy else str(item.type)


def _narrower(item: Input, shape: Shape, what: str) -> Shape:
    """
    Return the program's shape for an input. It may fix lengths that the signature leaves open.

    Raise NotConvertible if the signature has another number of dimensions.
    """
    if item.shape is not None and len(item.shape) != len(shape):
        raise NotConvertible(
            f"{what} takes a tensor of {len(shape)} dimensions as {item.name!r}, but its signature has "
            f"{len(item.shape)}"
        )
    return shape


def _keywords(module: Any, schema: Schema) -> tuple[str, ...] | None:
    """Return the signature's names if forward has a parameter for each of them, else None: call by position."""
    import inspect

    torch = untyped_torch()

    if isinstance(module, torch.jit.ScriptModule):
        names = [argument.name for argument in module.forward.schema.arguments]
    else:
        names = list(inspect.signature(module.forward).parameters)
    return schema.names() if set(schema.names()) <= set(names) else None
