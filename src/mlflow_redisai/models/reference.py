"""
The source of the answers that a deployed model must give: the library or the file that was logged.

Invariant: a Reference asks the model itself and nothing that a converter produced. Where only the converted model can
answer, a NoReference stands in, and the user is never told that the model was verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlflow_redisai.models.loading import MlflowModel


@dataclass(frozen=True)
class Reference:
    """
    A model's own answers. `kind` names their source, as `get` shows it: mlflow.pyfunc, for instance.

    `answer` takes predict's input and returns what predict must return. It raises what the model raises.
    """

    kind: str
    answer: Callable[[Any], Any]


@dataclass(frozen=True)
class NoReference:
    """No answer of the model itself exists to compare with. `reason` says why, without a full stop."""

    reason: str


def pyfunc_reference(model: MlflowModel) -> Reference:
    """Return a reference to the answers of `mlflow.pyfunc`. The model is loaded on the first call."""
    return Reference("mlflow.pyfunc", lambda inputs: model.pyfunc().predict(inputs))
