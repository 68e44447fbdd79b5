"""
Tries a conversion out on this machine before it is believed: it must answer as the model itself does.

For converters whose models take any number of rows and answer with arrays. Which rows are tried is `probes`' work.
Invariant: what a mapping says of the answer's types and shapes was seen in an answer of the model itself.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.models import graph
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.probes import made_up, mark_gaps, with_gaps
from redisai_engine.codec.compare import Difference, compare, tolerance_of
from redisai_engine.codec.errors import InputMismatch
from redisai_engine.codec.mapping import Answer, Container, Mapping, Part, Schema
from redisai_engine.codec.prediction import predict
from redisai_engine.codec.values import Array


@dataclass(frozen=True)
class Trial:
    """The model that is to be answered like; `what` names it in errors."""

    model: MlflowModel
    what: str

    def probes(self, schema: Schema, categories: dict[str | int, Array]) -> tuple[Schema, list[Any]]:
        """
        Gives inputs that the model itself answers: the example, rows made up around it, and rows with gaps.

        The schema is marked on the way: in which columns the model takes gaps.
        """
        example = self.model.input_example
        found = [example] if example is not None and self._answers(example) else []
        rows = made_up(schema, example, categories)
        if rows is None or not self._answers(rows):
            return schema, found
        schema = mark_gaps(schema, rows, self._answers)
        gaps = with_gaps(schema, rows)
        return schema, [*found, rows, *([gaps] if gaps is not None and self._answers(gaps) else [])]

    def _answers(self, inputs: Any) -> bool:
        try:
            self._reference(inputs)
        # Whatever the model raises: an unknown category, a shape; then this input says nothing about the conversion.
        except Exception:
            return False
        return True

    def _reference(self, inputs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.model.reference(inputs)

    def check(self, deployable: Deployable, probe: Any) -> Deployable:
        """Compares with the model's own answer; gives the mapping types and shapes as they really are."""
        expected = self._reference(probe)
        mapping = _observed(deployable.mapping, expected)
        run = graph.runner(deployable.blob, mapping.fetch, self.what)
        try:
            actual, _ = predict(run, mapping, probe)
            compare(expected, actual, tolerance_of(mapping))
        except InputMismatch as found:
            raise NotConvertible(f"{self.what} answers input that tensors can't hold: {found}") from found
        except (Difference, ValueError) as found:
            raise NotConvertible(f"{self.what} answers differently as ONNX: {found}") from found
        # ONNX Runtime finds some mistakes of a converter only when the graph runs.
        except Exception as error:
            raise NotConvertible(f"{self.what} can't be run as ONNX: {first_line(error)}") from error
        return replace(deployable, mapping=mapping)

    def with_outputs(self, deployable: Deployable, chosen: tuple[str, ...]) -> Deployable:
        """Gives other outputs than pyfunc's, if the user named some: one array, or a dict of arrays."""
        if not chosen:
            return deployable
        mapping = deployable.mapping
        names = [item.name for item in mapping.outputs]
        for name in chosen:
            if name not in names:
                raise NotConvertible(f"{self.what} has no output {name!r}; it has {', '.join(names)}")
        container: Container = "ndarray" if len(chosen) == 1 else "dict"
        answer = Answer(container, tuple(Part(name) for name in chosen))
        mapping = replace(mapping, fetch=tuple(names.index(name) for name in chosen), answer=answer)
        run = graph.runner(deployable.blob, mapping.fetch, self.what)
        self.model.reference = lambda inputs: predict(run, mapping, inputs)[0]
        return replace(deployable, mapping=mapping)


def _observed(mapping: Mapping, expected: Any) -> Mapping:
    values = expected if isinstance(expected, list) else [expected]
    if len(values) != len(mapping.answer.parts) or not all(isinstance(value, np.ndarray) for value in values):
        return mapping
    parts = tuple(_like(part, value) for part, value in zip(mapping.answer.parts, values, strict=True))
    return replace(mapping, answer=Answer(mapping.answer.container, parts))


def _like(part: Part, value: Array) -> Part:
    dtype = value.dtype.str if value.dtype.kind == "U" else value.dtype.name
    return Part(part.name, dtype, (-1, *value.shape[1:]))
