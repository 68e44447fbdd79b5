"""
The source of the answers that a deployed model must give: the library or the file that was logged.

Invariant: a Reference asks the model itself and nothing that a converter produced. Where only the converted model can
answer, a NoReference stands in, and the user is never told that the model was verified. A Reference refuses to be made
of a function that holds what a converter makes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from mlflow_redisai.models.loading import MlflowModel

# What converters make of a model: its answers would be compared with themselves.
_MADE_BY_CONVERTERS = {"Boosted", "Deployable", "InferenceSession", "ModelProto"}


@dataclass(frozen=True)
class Reference:
    """
    A model's own answers. `kind` names their source, as `get` shows it: mlflow.pyfunc, for instance.

    `answer` takes predict's input and returns what predict must return. It raises what the model raises.
    """

    kind: str
    answer: Callable[[Any], Any]

    def __post_init__(self) -> None:
        for held in _held(self.answer):
            if type(held).__name__ in _MADE_BY_CONVERTERS:
                raise TypeError(
                    f"{self.kind} can't be a reference: it asks a {type(held).__name__}, which a converter has made"
                )


def _held(function: Any) -> Iterator[Any]:
    """Yield the objects that a function holds: in its closure, as bound arguments, or as the owner of a method."""
    pending, seen = [function], set()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, MethodType):
            pending += [one.__self__, one.__func__]
        elif isinstance(one, partial):
            pending += [one.func, *one.args, *one.keywords.values()]
        elif isinstance(one, FunctionType):
            pending += _closure(one)


def _closure(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        # A variable that is assigned later than the function is defined has no content yet.
        with contextlib.suppress(ValueError):
            yield cell.cell_contents


@dataclass(frozen=True)
class NoReference:
    """No answer of the model itself exists to compare with. `reason` says why, without a full stop."""

    reason: str


def pyfunc_reference(model: MlflowModel) -> Reference:
    """Return a reference to the answers of `mlflow.pyfunc`. The model is loaded on the first call."""
    return Reference("mlflow.pyfunc", lambda inputs: model.pyfunc().predict(inputs))
