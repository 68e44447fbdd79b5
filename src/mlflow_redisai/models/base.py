"""
The input and the output of every flavor's converter. No converter lives here, and no framework is imported.

A converter is one function, `convert(model, request) -> Deployable`, named in the table in `registry`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mlflow_redisai.models.reference import NoReference, Reference
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.codec.mapping import Mapping


@dataclass(frozen=True)
class Request:
    """
    What to convert to: one backend of one flavor, within the server's limits.

    `outputs` names the outputs that the user chose; () means those that pyfunc's answer is made of. `environment` and
    `replicas` are for Python models: where each process finds its packages, and how many there are.
    """

    flavor: str
    backend: str = "ONNX"
    limits: ServerLimits = field(default_factory=ServerLimits)
    outputs: tuple[str, ...] = ()
    environment: str = "uv"
    replicas: int = 1


@dataclass(frozen=True)
class Deployable:
    """
    A model in the form that the server takes, and the reference whose answers it must give.

    `blob` is what AI.MODELSTORE takes. `tf_inputs` and `tf_outputs` are that command's INPUTS and OUTPUTS, which only
    the backends TF and PYFUNC need. `notes` are for the user. `example` is an input kept in the model's own file, for
    a model logged without an input example. `tried` is the number of trial rows whose answers were compared on this
    machine, and `sample` some of these rows, to be run on the server as well.
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
    tried: int = 0
    sample: Any = None
