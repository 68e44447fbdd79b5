"""
The flavor pytorch: a torch.export program (`pt2`), a pickled nn.Module or a ScriptModule.

The answer is pyfunc's: a frame (columns 0, 1, ...) if the signature has columns, an array if it has a tensor. pyfunc
can answer only models with one input and one output. For all others the reference is the module itself, called with the
signature's tensors by name or by position. Its dict becomes a dict, its list or tuple a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlflow_redisai.errors import MissingConverter, NotConvertible, first_line
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import Reference, pyfunc_reference
from mlflow_redisai.models.signature import schema_of
from mlflow_redisai.models.structure import Structure
from mlflow_redisai.models.torch import pt2
from mlflow_redisai.models.torch.call import ModuleCall, untyped_torch
from mlflow_redisai.models.torch.export import Trial, export
from mlflow_redisai.models.torch.torchscript import Source
from mlflow_redisai.models.trials.probes import made_up
from redisai_engine.codec.answers import decode
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Answer, Container, Field, Input, Mapping, Output, Part, Schema, Shape
from redisai_engine.codec.values import Array
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.tensor import Tensor

_SEED = 20260101
# The numbers of rows of trials. A model is traced with the first one.
_ROWS = (3, 1, 48)
# The length of made-up input along axes that the signature leaves open.
_LENGTH = 6


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


def convert(model: MlflowModel, request: Request) -> Deployable:
    """Convert a PyTorch model. Raise NotConvertible or MissingConverter."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingConverter("pytorch", "torch", "torch") from error
    conversion = _read(model)
    conversion = _for_any_strides(conversion)
    structure, trials = _trials(conversion)
    source = Source(conversion.call, structure, conversion.program)
    exported = export(source, trials, request)
    mapping = _with_answer(conversion, exported.mapping, structure, trials[0], request.outputs)
    reference = _reference(conversion, structure, mapping, chosen=bool(request.outputs))
    return Deployable(
        "pytorch", request.backend, exported.blob, mapping, reference, conversion.example, notes=exported.notes
    )


# -- reading the model ----------------------------------------------------------------------------


def _read(model: MlflowModel) -> TorchConversion:
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
    from mlflow.models.signature import infer_signature

    found = schema_of(infer_signature(example).inputs)
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


# -- trials ---------------------------------------------------------------------------------------


def _trials(conversion: TorchConversion) -> tuple[Structure, list[Trial]]:
    """Return the structure of the module's output, and trials: inputs of several lengths with the module's answers."""
    problems: list[Exception] = []
    structure: Structure | None = None
    trials = []
    for arrays in _inputs(conversion):
        try:
            structure = structure or conversion.call.structure(arrays)
            trials.append(Trial(arrays, conversion.call.run(arrays, structure)))
        except NotConvertible:
            raise
        # Made-up input may not suit the model: an index beyond its vocabulary, or a length that it wasn't made for.
        except Exception as error:
            problems.append(error)
    if structure is None:
        raise NotConvertible(
            f"{conversion.call.what} fails on its input example: {first_line(problems[0])}"
            if conversion.example is not None
            else f"{conversion.call.what} fails on made-up input: {first_line(problems[0])}; "
            "log it with an input example"
        )
    return structure, trials


def _for_any_strides(conversion: TorchConversion) -> TorchConversion:
    """
    Drop a program's guards if they refuse its own example because of its layout in memory.

    torch.export turns the strides of its example into guards. If the example was a slice of a larger array, neither the
    stored example nor a request has these strides. The result doesn't depend on them, and the trials check that few and
    many rows are answered alike.
    """
    arrays = None if conversion.program is None else _encoded(conversion, conversion.example)
    if arrays is None:
        return conversion
    try:
        conversion.call.structure(arrays)
    except AssertionError as error:
        if ".stride()" in str(error):
            call = replace(conversion.call, module=pt2.without_guards(conversion.program))
            return replace(conversion, call=call, checked=False)
    # The trials report any other problem.
    except Exception:
        return conversion
    return conversion


def _inputs(conversion: TorchConversion) -> Iterator[list[Array]]:
    """Yield inputs with several numbers of rows and lengths: drawn from the example's rows, and made up around them."""
    random = np.random.default_rng(_SEED)
    start = _encoded(conversion, conversion.example)
    around = _encoded(conversion, made_up(_closed(conversion), conversion.example, {}))
    rows = start or around
    if rows is None:
        return
    for count in _ROWS:
        chosen = random.integers(0, len(rows[0]), count)
        yield [array[chosen] for array in rows]
    if around is not None:
        yield around
    for length in _other_lengths(conversion.call.inputs, rows):
        yield [_resized(array, item, length) for array, item in zip(rows, conversion.call.inputs, strict=True)]


def _encoded(conversion: TorchConversion, inputs: Any) -> list[Array] | None:
    if inputs is None:
        return None
    try:
        return [tensor.array() for tensor in Encoder(conversion.mapping()).encode(inputs)]
    except InputMismatch:
        return None


def _closed(conversion: TorchConversion) -> Schema:
    """Return the schema with a fixed length for every axis but the first."""
    fields = []
    for item, known in zip(conversion.schema.fields, conversion.call.inputs, strict=False):
        inner = known.shape[1:] if item.shape and known.shape else item.shape[1:]
        fields.append(replace(item, shape=(None, *[length or _LENGTH for length in inner])) if item.shape else item)
    return (
        replace(conversion.schema, fields=tuple(fields)) if conversion.schema.kind == "tensors" else conversion.schema
    )


def _other_lengths(inputs: tuple[Input, ...], rows: list[Array]) -> list[int]:
    """Return a shorter and a longer length to try for the first open inner axis, [] if no inner axis is open."""
    for item, array in zip(inputs, rows, strict=True):
        for axis, length in enumerate(item.shape or ()):
            if axis and length is None:
                return [max(1, array.shape[axis] // 2), array.shape[axis] + 1]
    return []


def _resized(array: Array, item: Input, length: int) -> Array:
    for axis, known in enumerate(item.shape or ()):
        if axis and known is None:
            array = np.take(array, np.arange(length) % array.shape[axis], axis=axis)
    return np.ascontiguousarray(array)


# -- the answer -----------------------------------------------------------------------------------


def _with_answer(
    conversion: TorchConversion, mapping: Mapping, structure: Structure, trial: Trial, outputs: tuple[str, ...]
) -> Mapping:
    for name in outputs:
        if name not in structure.names:
            raise NotConvertible(f"{conversion.call.what} has no output {name!r}; it has {', '.join(structure.names)}")
    fetch = tuple(structure.names.index(name) for name in outputs) or mapping.fetch
    parts = tuple(Part(structure.names[index], trial.answers[index].dtype.name) for index in fetch)
    container = _container(conversion, structure, trial, outputs)
    return replace(mapping, fetch=fetch, answer=Answer(container, parts), schema=conversion.schema)


def _container(conversion: TorchConversion, structure: Structure, trial: Trial, outputs: tuple[str, ...]) -> Container:
    if outputs:
        return "ndarray" if len(outputs) == 1 else "dict"
    if structure.kind != "tensor":
        return structure.kind
    # A pandas frame has at most two dimensions.
    if trial.answers[0].ndim > 2 or (conversion.enforced and conversion.schema.kind == "tensors"):
        return "ndarray"
    return "matrix" if conversion.enforced else "matrix like input"


def _reference(conversion: TorchConversion, structure: Structure, mapping: Mapping, *, chosen: bool) -> Reference:
    """Return pyfunc as the reference, or the module itself for chosen outputs and if pyfunc can't answer."""
    if not chosen and _pyfunc_answers(conversion):
        return pyfunc_reference(conversion.model)
    encoder = Encoder(mapping)

    def own(inputs: Any) -> Any:
        arrays = [tensor.array() for tensor in encoder.encode(inputs)]
        answers = conversion.call.run(arrays, structure)
        tensors = [_as_tensor(answers[index], mapping.outputs[index]) for index in mapping.fetch]
        return decode(tensors, mapping, inputs)

    checks = "" if conversion.checked else ", without the guards that torch.export gave it"
    return Reference(f"the PyTorch module itself{checks}", own)


def _as_tensor(answer: Array, output: Output) -> Tensor:
    """Return a tensor of an array, widened if RedisAI lacks its type. Decoding restores the type."""
    return Tensor.from_array(answer if output.dtype is None else answer.astype(output.dtype.numpy))


def _pyfunc_answers(conversion: TorchConversion) -> bool:
    if conversion.example is None:
        return True
    try:
        conversion.model.pyfunc().predict(conversion.example)
    # TypeError for several inputs or outputs, MlflowException for a model logged without pyfunc.
    except Exception:
        return False
    return True
