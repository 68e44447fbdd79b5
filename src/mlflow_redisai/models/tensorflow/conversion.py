"""
The conversion that the flavors tensorflow and keras share: from a model that was read to a Deployable that was tried.

The model is traced, exported for one backend, and compared with mlflow.pyfunc on its input example and on rows made up
around it. If pyfunc can't answer (several outputs of unlike shapes, or a tf.Module whose signature has names), the
reference is the model itself, and a note says so.

Invariant: a Deployable that is returned gave the reference's answer to every probe that the reference could answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import Reference
from mlflow_redisai.models.rows import batch_notes, fixed_batch
from mlflow_redisai.models.signature import schema_of
from mlflow_redisai.models.tensorflow.answers import fetched, model_reference, pyfunc_reference
from mlflow_redisai.models.tensorflow.call import CallingConvention, Traced, quiet, reason, trace
from mlflow_redisai.models.tensorflow.export import export
from mlflow_redisai.models.tensorflow.trials import check, check_repeatable, limits
from mlflow_redisai.models.trials.probes import made_up
from redisai_engine.codec.compare import compare, tolerance_of
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Answer, Container, Field, Input, Mapping, Part, Schema, Shape
from redisai_engine.codec.prediction import predict

# The length of made-up input along axes that the signature leaves open.
_LENGTH = 6

_NO_ANSWER = "mlflow.pyfunc can't answer with this model's outputs; the deployed model answers as the model itself does"


@dataclass(frozen=True)
class TensorFlowConversion:
    """
    A model after reading. `schema` is None without a signature. `names` are its outputs' names if it returns a list.

    `conventions` are ways to call it, the preferred one first. `container` returns the container of pyfunc's answer,
    and whether pyfunc can answer at all.
    """

    model: MlflowModel
    what: str
    schema: Schema | None
    conventions: tuple[CallingConvention, ...]
    names: tuple[str, ...]
    container: Callable[[Traced], tuple[Container, bool]]


def open_schema(model: MlflowModel) -> Schema | None:
    """Return the signature's schema, or None. Its number of rows is open even if fixed: the plugin splits requests."""
    schema = schema_of(model.input_schema)
    if schema is None:
        return None
    fields = [replace(item, shape=(None, *item.shape[1:])) if item.shape else item for item in schema.fields]
    return replace(schema, fields=tuple(fields))


def finish(conversion: TensorFlowConversion, request: Request) -> Deployable:
    """Convert for the request's backend. Raise NotConvertible if that fails, or if the result answers differently."""
    with quiet():
        traced, rows_note = _traced(conversion)
        plan = _mapping(conversion, traced, request.outputs)
        plan, reference, notes = _with_reference(conversion, traced, plan, chosen=bool(request.outputs))
        exported = export(traced, request)
        mapping = replace(
            plan,
            inputs=tuple(traced.inputs[index] for index in exported.order),
            depth=exported.depth,
            precision=exported.precision,
        )
        run = fetched(exported.run, mapping)
        check_repeatable(conversion.what, reference, _probes(conversion, traced))
        check(conversion.what, run, mapping, reference, _probes(conversion, traced), opened=bool(rows_note))
        found = limits(conversion.what, run, mapping, reference, _probes(conversion, traced))
        if mapping.schema is not None:
            mapping = replace(mapping, schema=found.applied(mapping.schema, plan.inputs))
    return Deployable(
        request.flavor,
        request.backend,
        exported.blob,
        mapping,
        reference,
        tf_inputs=exported.tf_inputs,
        tf_outputs=exported.tf_outputs,
        notes=(*notes, *exported.notes, *rows_note, *found.notes, *batch_notes(mapping.batch)),
    )


# -- any number of rows ---------------------------------------------------------------------------


def _traced(conversion: TensorFlowConversion) -> tuple[Traced, tuple[str, ...]]:
    """Trace the model, for any number of rows if it takes that. Add a note if it was made for a fixed number."""
    traced = trace(conversion.conventions, conversion.names, conversion.what)
    fixed = [convention for convention in conversion.conventions if fixed_batch(convention.inputs) is not None]
    if not fixed or fixed_batch(traced.inputs) is not None:
        return traced, ()
    own = trace(fixed, conversion.names, conversion.what)
    if not _same_for_any_rows(conversion, traced, own):
        return own, ()
    rows = fixed_batch(own.inputs)
    return traced, (f"the model was logged for exactly {rows} rows at a time; trials showed that it takes any number",)


def _same_for_any_rows(conversion: TensorFlowConversion, traced: Traced, own: Traced) -> bool:
    """Return whether another number of rows gets the same answers: a model may compute with its own number."""
    # Enough rows for three requests of the model's own size, the last one padded.
    count = 2 * (fixed_batch(own.inputs) or 1) + 1
    inputs = tuple(replace(item, shape=(count, *item.shape[1:])) if item.shape else item for item in traced.inputs)
    rows = _made_up(conversion, inputs, conversion.model.input_example, 0)
    if rows is None:
        return False
    one, other = _everything(conversion, traced), _everything(conversion, own)
    try:
        compare(predict(own.run, other, rows)[0], predict(traced.run, one, rows)[0], tolerance_of(one))
    # TensorFlow raises errors of many types for a length that doesn't fit.
    except Exception:
        return False
    return True


def _everything(conversion: TensorFlowConversion, traced: Traced) -> Mapping:
    """Return a mapping whose answer has all outputs unchanged."""
    parts = tuple(Part(name) for name in traced.structure.names)
    fetch = tuple(range(len(parts)))
    return Mapping(
        traced.inputs, traced.outputs, fetch, Answer("list", parts), conversion.schema, fixed_batch(traced.inputs)
    )


# -- what pyfunc answers --------------------------------------------------------------------------


def _mapping(conversion: TensorFlowConversion, traced: Traced, chosen: tuple[str, ...]) -> Mapping:
    """Return the mapping of the traced function: its answer has all outputs, or those that the user chose."""
    names = traced.structure.names
    for name in chosen:
        if name not in names:
            raise NotConvertible(f"{conversion.what} has no output {name!r}; it has {', '.join(names)}")
    container, _ = conversion.container(traced)
    if chosen:
        container = "ndarray" if len(chosen) == 1 else "dict"
    fetch = tuple(names.index(name) for name in chosen) or tuple(range(len(names)))
    parts = tuple(_part(traced, index, listed=container in {"listed", "cells", "cells like input"}) for index in fetch)
    batch = fixed_batch(traced.inputs)
    return Mapping(traced.inputs, traced.outputs, fetch, Answer(container, parts), conversion.schema, batch)


def _part(traced: Traced, index: int, *, listed: bool) -> Part:
    output = traced.outputs[index]
    dtype = None if traced.wanted[index] == "object" else traced.wanted[index]
    # MLflow's wrapper flattens an output with one value per row.
    single = listed and output.shape is not None and len(output.shape) > 1 and output.shape[1] == 1
    return Part(output.name, dtype, (-1,) if single else None)


def _with_reference(
    conversion: TensorFlowConversion, traced: Traced, mapping: Mapping, *, chosen: bool
) -> tuple[Mapping, Reference, tuple[str, ...]]:
    """
    Return the mapping, its parts in pyfunc's order; the reference; and notes.

    The reference is pyfunc, or the model itself for chosen outputs and if pyfunc can't answer.
    """
    own = model_reference(traced, mapping)
    _, answers = conversion.container(traced)
    if chosen or not answers:
        return mapping, own, () if chosen else (_NO_ANSWER,)
    reference, example = pyfunc_reference(conversion.model), conversion.model.input_example
    if example is None:
        return mapping, reference, ()
    try:
        expected = reference.answer(example)
    # MLflow's wrapper may raise anything for a model that it wasn't written for.
    except Exception as error:
        note = (
            f"mlflow.pyfunc fails on this model's input example ({reason(error)}); "
            "the deployed model answers as the model itself does"
        )
        return mapping, own, (note,)
    return _in_order_of(expected, mapping), reference, ()


def _in_order_of(expected: Any, mapping: Mapping) -> Mapping:
    """Return the mapping with the entries of a dict or frame in pyfunc's order."""
    names = [part.name for part in mapping.answer.parts]
    wanted = list(expected) if isinstance(expected, dict) or hasattr(expected, "columns") else names
    if sorted(map(str, wanted)) != sorted(names):
        return mapping
    order = [names.index(str(name)) for name in wanted]
    answer = replace(mapping.answer, parts=tuple(mapping.answer.parts[index] for index in order))
    return replace(mapping, fetch=tuple(mapping.fetch[index] for index in order), answer=answer)


# -- trying ---------------------------------------------------------------------------------------


def _probes(conversion: TensorFlowConversion, traced: Traced) -> list[Any]:
    """Return the example, and rows made up around it, in two lengths if any length is open."""
    example = conversion.model.input_example
    is_open = any(None in (item.shape or ())[1:] for item in traced.inputs)
    made = [_made_up(conversion, traced.inputs, example, extra) for extra in ((0, 1) if is_open else (0,))]
    return [probe for probe in (example, *made) if probe is not None]


def _made_up(conversion: TensorFlowConversion, inputs: tuple[Input, ...], example: Any, extra: int) -> Any:
    """
    Return rows for the inputs, in the form that pyfunc takes, or None if none can be made up.

    Open lengths are the example's plus `extra`.
    """
    schema = conversion.schema or _schema_of(inputs)
    if schema.kind == "columns":
        return made_up(schema, example, {})
    lengths = _lengths(conversion, inputs, example)
    by_field = {item.fields[0] if item.fields else index: index for index, item in enumerate(inputs)}
    closed = []
    for number, field in enumerate(schema.fields):
        index = by_field.get(number)
        known = inputs[index].shape if index is not None else None
        closed.append(_closed(field, known, lengths[index] if index is not None else (), extra))
    return made_up(replace(schema, fields=tuple(closed)), example, {})


def _schema_of(inputs: Sequence[Input]) -> Schema:
    fields = [
        Field(item.name if len(inputs) > 1 else None, "", item.dtype, item.shape or (None,))
        for item in inputs
        if item.dtype is not None
    ]
    return Schema("tensors", tuple(fields))


def _lengths(conversion: TensorFlowConversion, inputs: tuple[Input, ...], example: Any) -> list[tuple[int, ...]]:
    """Return the shapes of the example's tensors, or () for each input if there is no usable example."""
    if example is not None:
        try:
            mapping = Mapping(inputs, (), (), Answer("list", ()), conversion.schema)
            return [tensor.shape for tensor in Encoder(mapping).encode(example)]
        except InputMismatch:
            pass
    return [()] * len(inputs)


def _closed(item: Field, known: Shape | None, lengths: tuple[int, ...], extra: int) -> Field:
    """Return a field with a fixed length for every axis but the first, and for the first if the model fixes it."""
    shape = [known[0] if known else None]
    for axis, length in enumerate(item.shape[1:], 1):
        fixed = length or (known[axis] if known and len(known) > axis else None)
        shape.append(fixed or (lengths[axis] if len(lengths) > axis else _LENGTH) + extra)
    return replace(item, shape=tuple(shape))
