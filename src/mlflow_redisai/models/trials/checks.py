"""
Trials of a conversion on this machine: it must answer as the model itself does.

They serve converters whose models take any number of rows and answer with arrays. `trials.probes` and `trials.rows`
make the rows.

Invariant: as soon as the model itself has answered a probe, the mapping has the types and shapes of that answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.models import graph
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.reference import NoReference, Reference
from mlflow_redisai.models.trials.contracts import check_refusals, learned, passes, with_missing_text
from mlflow_redisai.models.trials.edges import Edges
from mlflow_redisai.models.trials.probes import made_up, with_gaps
from mlflow_redisai.models.trials.rows import batches
from mlflow_redisai.models.trials.splitting import answered, rows_in
from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Answer, Container, Mapping, Output, Part, Schema
from redisai_engine.codec.prediction import Run, predict
from redisai_engine.codec.values import Array


def probes(reference: Reference, schema: Schema, example: Any, edges: Edges) -> tuple[Schema, list[Any]]:
    """
    Return the schema and inputs for trials: the example, rows made up around it, rows with gaps (NaN), and rows at the
    model's own edges.

    Only rows that the model itself answers, and that the contracts allow, are returned. The schema comes back with the
    fields' contracts. Raise NotConvertible for a model that refuses rows in a way that no contract expresses.
    """

    def answers(inputs: Any) -> bool:
        return any(True for _ in _own_answers(reference, [inputs]))

    found = [example] if example is not None and answers(example) else []
    rows = made_up(schema, example, edges.categories)
    rows = None if rows is None else answered(rows, answers)
    if rows is None:
        return schema, found
    schema = learned(schema, rows, answers, edges.categories)
    more = [each for each in (with_gaps(schema, rows), *with_missing_text(schema, rows)) if each is not None]
    made = [rows, *more, *batches(schema, example, edges)]
    for each in made:
        check_refusals(schema, each, answers)

    def accepted(inputs: Any) -> bool:
        return passes(schema, inputs) and answers(inputs)

    return schema, [*found, *(kept for each in made if (kept := answered(each, accepted)) is not None)]


def _own_answers(reference: Reference | NoReference, inputs: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each input that the model itself answers, along with the answer."""
    if isinstance(reference, NoReference):
        return
    for probe in inputs:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer = reference.answer(probe)
        # A model may raise anything, for instance for an unknown category. Such a probe proves nothing.
        except Exception:
            continue
        yield probe, answer


def checked(deployable: Deployable, inputs: Sequence[Any], what: str) -> Deployable:
    """
    Compare a conversion with the model's own answers. Return it with the types and shapes seen in them.

    `what` names the model in errors. Raise NotConvertible if any answer differs, or if the graph can't be run.
    """
    run = graph.runner(deployable.blob, deployable.mapping.fetch, what)
    tried: list[Any] = []
    for probe, expected in _own_answers(deployable.reference, inputs):
        deployable = replace(deployable, mapping=_observed(deployable.mapping, expected))
        _compare(run, deployable.mapping, probe, expected, what)
        tried.append(probe)
    return replace(deployable, tried=sum(map(rows_in, tried)), sample=tried[0] if tried else None)


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
    run = graph.runner(deployable.blob, mapping.fetch, what)
    tried: list[Any] = []
    for probe, expected in _own_answers(reference, inputs):
        _compare(run, mapping, probe, expected, what)
        tried.append(probe)
    return replace(deployable, tried=sum(map(rows_in, tried)), sample=tried[0] if tried else None)


def _choosing(mapping: Mapping, chosen: Sequence[str], what: str) -> Mapping:
    names = [item.name for item in mapping.outputs]
    for name in chosen:
        if name not in names:
            raise NotConvertible(f"{what} has no output {name!r}; it has {', '.join(names)}")
    container: Container = "ndarray" if len(chosen) == 1 else "dict"
    answer = Answer(container, tuple(Part(name) for name in chosen))
    return replace(mapping, fetch=tuple(names.index(name) for name in chosen), answer=answer)


def _compare(run: Run, mapping: Mapping, probe: Any, expected: Any, what: str) -> None:
    try:
        actual, _ = predict(run, mapping, probe)
        compare(expected, actual, tolerance_of(mapping))
    except InputMismatch as found:
        raise NotConvertible(f"{what} accepts input that tensors can't hold: {found}") from found
    except (Difference, ValueError) as found:
        raise NotConvertible(f"{what} answers differently after conversion to ONNX: {found}") from found
    # ONNX Runtime detects some converters' mistakes only when the graph runs.
    except Exception as error:
        raise NotConvertible(f"{what} can't be run after conversion to ONNX: {first_line(error)}") from error


def _observed(mapping: Mapping, expected: Any) -> Mapping:
    values = expected if isinstance(expected, list) else [expected]
    if len(values) != len(mapping.answer.parts) or not all(isinstance(value, np.ndarray) for value in values):
        return mapping
    parts = tuple(_like(part, value) for part, value in zip(mapping.answer.parts, values, strict=True))
    return replace(mapping, answer=Answer(mapping.answer.container, parts))


def _like(part: Part, value: Array) -> Part:
    dtype = value.dtype.str if value.dtype.kind == "U" else value.dtype.name
    return Part(part.name, dtype, (-1, *value.shape[1:]))
