"""
What every flavor's converter gets and gives. No converter stands here, and no framework is imported.

A converter is one function, `convert(model, request) -> Deployable`, named by the table in `registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.codec.mapping import Mapping

if TYPE_CHECKING:
    from mlflow_redisai.models.loading import LoadedModel


@dataclass(frozen=True)
class Request:
    """What a conversion is to give, for one backend; `outputs` are names, () for what pyfunc's answer is made of."""

    flavor: str
    backend: str = "ONNX"
    limits: ServerLimits = field(default_factory=ServerLimits)
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployable:
    """A model as the server takes it; `tf_inputs` and `tf_outputs` only for TF, `notes` are for the user."""

    flavor: str
    backend: str
    blob: bytes
    mapping: Mapping
    tf_inputs: tuple[str, ...] = ()
    tf_outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Converter = Callable[["LoadedModel", Request], Deployable]
