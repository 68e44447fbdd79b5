"""
What every flavor's converter gets and gives. No converter stands here, and no framework is imported.

A converter is one function, `convert(model, request) -> Deployable`, named by the table in `registry`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mlflow_redisai.models.reference import NoReference, Reference
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.codec.mapping import Mapping


@dataclass(frozen=True)
class Request:
    """What a conversion is to give, for one backend; `outputs` are names, () for what pyfunc's answer is made of."""

    flavor: str
    backend: str = "ONNX"
    limits: ServerLimits = field(default_factory=ServerLimits)
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployable:
    """
    A model as the server takes it, and whose answers it must give.

    `tf_inputs` and `tf_outputs` are only for TF, `notes` are for the user. `example` is an input that the model's own
    file keeps, for a model that MLflow keeps none for.
    """

    flavor: str
    backend: str
    blob: bytes
    mapping: Mapping
    reference: Reference | NoReference
    example: Any = None
    tf_inputs: tuple[str, ...] = ()
    tf_outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
