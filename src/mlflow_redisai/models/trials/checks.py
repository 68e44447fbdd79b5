"""
Trials of a conversion on this machine: it must answer as the model itself does.

They serve converters whose models take any number of rows and answer with arrays. `trials.probes` and `trials.rows`
make the rows.

Invariant: as soon as the model itself has answered a probe, the mapping has the types and shapes of that answer.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models import graph
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.reference import NoReference, Reference
from mlflow_redisai.models.trials.contracts import check_refusals, learned, passes, with_missing_text
from mlflow_redisai.models.trials.edges import Edges
from mlflow_redisai.models.trials.probes import made_up, with_gaps
from mlflow_redisai.models.trials.rows import Huge, batches
from mlflow_redisai.models.trials.sparse import with_sparse
from mlflow_redisai.models.trials.splitting import answered, rows_at, rows_in
from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Answer, Container, Field, Mapping, Output, Part, Schema
from redisai_engine.codec.prediction import Run, predict
from redisai_engine.codec.values import Array

# Below this, an answer to a huge number is nothing.
_ALMOST_ZERO = 1e-30

# Rows of a sample for a network, which may be large.
_SAMPLE = 6


def probes(reference: Reference, schema: Schema, example: Any, edges: Edges) -> tuple[Schema, list[Any]]:
    """
    Return the schema and inputs for trials: the example, rows made up around it, rows with gaps (NaN), and rows at the
    model's own edges.

    Only rows that the model itself answers, and that the contracts allow, are returned. The schema comes back with the
    fields' contracts. Raise NotConvertible for a model that refuses rows in a way that no contract expresses.
    """

    def answers(inputs: Any) -> bool:
        return any(True for _ in _own_answer(reference, inputs))

    found = [example] if example is not None and answers(example) else []
    rows = _ordinary(schema, example, edges, answers)
    if rows is None:
        return with_sparse(schema, found, reference.answer), found
    schema = learned(schema, rows, answers, edges.categories)
    more = [each for each in (with_gaps(schema, rows), *with_missing_text(schema, rows)) if each is not None]
    found += [each for rows in (rows, *more) if (each := _kept(schema, rows, answers)) is not None]
    for batch in batches(schema, example, edges):
        kept = _kept(schema, batch.rows if isinstance(batch, Huge) else batch, answers)
        if kept is not None:
            found.append(replace(batch, rows=kept) if isinstance(batch, Huge) else kept)
    return with_sparse(schema, [rows for rows in found if not isinstance(rows, Huge)], reference.answer), found


def _ordinary(schema: Schema, example: Any, edges: Edges, answers: Callable[[Any], bool]) -> Any:
    """
    Return rows that the model answers, for its contract to be learned with; None if it answers none.

    They are made-up ones if possible. A model may refuse these all, such as neighbours within a radius, and answer only
    what is near its training.
    """
    near = (batch for batch in batches(schema, example, edges) if not isinstance(batch, Huge))
    for rows in itertools.chain([made_up(schema, example, edges.categories)], near):
        kept = None if rows is None else answered(rows, answers)
        if kept is not None:
            return kept
    return None


def _kept(schema: Schema, rows: Any, answers: Callable[[Any], bool]) -> Any:
    """Return the rows that the model answers and its contract allows, None if there are none."""
    check_refusals(schema, rows, answers)
    return answered(rows, lambda inputs: passes(schema, inputs) and answers(inputs))


def checked(deployable: Deployable, inputs: Sequence[Any], what: str) -> Deployable:
    """
    Compare a conversion with the model's own answers. Return it with the types and shapes seen in them.

    `what` names the model in errors. Raise NotConvertible if any answer differs, or if the graph can't be run.
    """
    return _tried(deployable, inputs, what, observe=True)


def with_outputs(
    deployable: Deployable,
    chosen: Sequence[str],
    reference_of: Callable[[Sequence[Output]], Reference | NoReference],
    inputs: Sequence[Any],
    what: str,
) -> Deployable:
    """
    Return a deployable that answers with the chosen outputs, as the graph gives them: one array, or a dict of several.

    `reference_of` returns the model's own answers for outputs. Raise NotConvertible for an output that doesn't exist,
    and if the graph answers differently from the reference.
    """
    mapping = _choosing(deployable.mapping, chosen, what)
    reference = reference_of([mapping.outputs[index] for index in mapping.fetch])
    deployable = replace(deployable, mapping=mapping, reference=reference)
    return _tried(deployable, inputs, what, observe=False)


def _tried(deployable: Deployable, inputs: Sequence[Any], what: str, *, observe: bool) -> Deployable:
    """Return the deployable with what the trials have shown. With `observe`, answers are shaped as the model's own."""
    run = graph.runner(deployable.blob, deployable.mapping.fetch, what)
    deployable = replace(deployable, tried=0, sample=None)
    for probe in inputs:
        rows = probe.rows if isinstance(probe, Huge) else probe
        if isinstance(probe, Huge) and not _lets_through(deployable.mapping, probe):
            continue
        for expected in _own_answer(deployable.reference, rows):
            if observe:
                deployable = replace(deployable, mapping=_observed(deployable.mapping, expected))
            try:
                _compare(run, deployable.mapping, rows, expected, what, alone=isinstance(probe, Huge))
            except NotConvertible as problem:
                if not isinstance(probe, Huge):
                    raise
                deployable = _limited(deployable, probe, problem)
                continue
            sample = rows if deployable.sample is None else deployable.sample
            deployable = replace(deployable, tried=deployable.tried + rows_in(rows), sample=sample)
    return deployable


def _own_answer(reference: Reference | NoReference, inputs: Any) -> Iterator[Any]:
    """Yield the model's own answer, or nothing if it has none."""
    if isinstance(reference, NoReference):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = reference.answer(inputs)
    # A model may raise anything, for instance for an unknown category. Such input proves nothing.
    except Exception:
        return
    yield answer


# -- huge numbers ---------------------------------------------------------------------------------


def _lets_through(mapping: Mapping, probe: Huge) -> bool:
    """Return whether the contract accepts numbers of this size in any column."""
    fields = [item for item in mapping.schema.fields if _has_such(item, probe)] if mapping.schema is not None else []
    if np.isinf(probe.size):
        return any(item.infinite for item in fields)
    return any(item.largest is None or item.largest >= probe.size for item in fields)


def _has_such(item: Field, probe: Huge) -> bool:
    return item.dtype.numpy.kind in "iu" if probe.whole else item.dtype.is_float


def _limited(deployable: Deployable, probe: Huge, problem: NotConvertible) -> Deployable:
    """
    Return a deployable that refuses numbers of the probe's size, for which its answers differ from the model's.

    That is better than refusing the model: no row that it was made for has such numbers.
    """
    schema = deployable.mapping.schema
    assert schema is not None
    fields = tuple(_with_limit(item, probe.below) if _has_such(item, probe) else item for item in schema.fields)
    numbers = "infinite numbers" if probe.below is None else f"{'whole ' * probe.whole}numbers beyond {probe.below:g}"
    note = f"{numbers} are refused, because for these {problem.message}"
    mapping = replace(deployable.mapping, schema=replace(schema, fields=fields))
    return replace(deployable, mapping=mapping, notes=(*deployable.notes, note))


def _with_limit(item: Field, largest: float | None) -> Field:
    known = [limit for limit in (item.largest, largest) if limit is not None]
    # An integer is never infinite.
    infinite = item.infinite and not item.dtype.is_float
    return replace(item, infinite=infinite, largest=min(known) if known else None)


# -- outputs and answers --------------------------------------------------------------------------


def with_sample(deployable: Deployable) -> Deployable:
    """
    Return a deployable with rows to verify it by, for a model without an input example.

    They are a few made-up rows that the model itself answers, unless its converter has tried others.
    """
    schema, reference = deployable.mapping.schema, deployable.reference
    if deployable.sample is not None or schema is None or isinstance(reference, NoReference):
        return deployable
    rows = made_up(schema, None, {})
    few = None if rows is None else rows_at(rows, np.arange(min(rows_in(rows), deployable.mapping.batch or _SAMPLE)))
    return (
        replace(deployable, sample=few)
        if few is not None and any(True for _ in _own_answer(reference, few))
        else deployable
    )


def _choosing(mapping: Mapping, chosen: Sequence[str], what: str) -> Mapping:
    names = [item.name for item in mapping.outputs]
    for name in chosen:
        if name not in names:
            raise NotConvertible(f"{what} has no output {name!r}; it has {', '.join(names)}")
    container: Container = "ndarray" if len(chosen) == 1 else "dict"
    answer = Answer(container, tuple(Part(name) for name in chosen))
    return replace(mapping, fetch=tuple(names.index(name) for name in chosen), answer=answer)


def _compare(run: Run, mapping: Mapping, probe: Any, expected: Any, what: str, *, alone: bool) -> None:
    """Compare on a probe, with `alone` each row too: a huge answer hides what is wrong with smaller ones."""
    try:
        actual, _ = predict(run, mapping, probe)
        compare(expected, actual, tolerance_of(mapping))
        for row in _large(expected) if alone else ():
            compare(expected[row : row + 1], actual[row : row + 1], tolerance_of(mapping))
    except InputMismatch as found:
        raise NotConvertible(f"{what} accepts input that tensors can't hold: {found}") from found
    except (Difference, ValueError) as found:
        raise NotConvertible(f"{what} answers differently after conversion to ONNX: {found}") from found
    # ONNX Runtime detects some converters' mistakes only when the graph runs.
    except Exception as error:
        raise NotConvertible(
            f"{what} can't be run after conversion to ONNX; some of its own rows make the graph fail "
            f"(ONNX Runtime: {graph.reason_of(error)})"
        ) from error


def _large(answer: Any) -> list[int]:
    """Return the rows of numbers that aren't almost zero: a library may flush those below float32's normal ones."""
    if not isinstance(answer, np.ndarray) or answer.dtype.kind != "f":
        return []
    return [row for row in range(len(answer)) if np.abs(answer[row]).max() > _ALMOST_ZERO]


def _observed(mapping: Mapping, expected: Any) -> Mapping:
    values = expected if isinstance(expected, list) else [expected]
    if len(values) != len(mapping.answer.parts) or not all(isinstance(value, np.ndarray) for value in values):
        return mapping
    parts = tuple(_like(part, value) for part, value in zip(mapping.answer.parts, values, strict=True))
    return replace(mapping, answer=Answer(mapping.answer.container, parts))


def _like(part: Part, value: Array) -> Part:
    dtype = value.dtype.str if value.dtype.kind == "U" else value.dtype.name
    return Part(part.name, dtype, (-1, *value.shape[1:]))
