"""
Whose answers a deployed model must give: those of the library or the file that was logged.

Invariant: a Reference asks the model itself; nothing that a converter made of it takes part. Where only the conversion
could answer there is a NoReference, and nobody is told that the model was verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlflow_redisai.models.loading import MlflowModel


@dataclass(frozen=True)
class Reference:
    """
    A model's own answers. `kind` says in words whose they are, as `get` shows it.

    `answer` takes what predict takes and gives what predict is to give; it raises whatever the model raises.
    """

    kind: str
    answer: Callable[[Any], Any]


@dataclass(frozen=True)
class NoReference:
    """The model itself has no answer to compare with; `reason` says why, without a full stop."""

    reason: str


def pyfunc_reference(model: MlflowModel) -> Reference:
    """Return the answers of `mlflow.pyfunc`, which loads the model when it is first asked."""
    return Reference("mlflow.pyfunc", lambda inputs: model.pyfunc().predict(inputs))
