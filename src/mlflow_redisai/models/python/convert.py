"""
Any MLflow model, as it is, for the backend PYFUNC: the engine runs it with MLflow, in processes of its own.

Nothing is converted. Input and answer travel as parcels, and what pyfunc answers is what the deployment answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import CODE_VARIABLE, MlflowModel, may_run_code
from mlflow_redisai.models.python.archive import archived
from mlflow_redisai.models.python.environment import environment
from mlflow_redisai.models.reference import pyfunc_reference
from mlflow_redisai.models.registry import FLAVORS, PYTHON, PYTHON_FLAVOR, reason_of
from redisai_engine.codec.mapping import Answer, Field, Input, Mapping, Output, Part, Schema
from redisai_engine.protocol import dtypes

INPUT, OUTPUT = "input", "output"

FORMAT = 1


def convert(model: MlflowModel, request: Request) -> Deployable:
    """Return the model's archive. Raise NotConvertible for a model without pyfunc, or if no code may run."""
    what = f"the model {model.uri}"
    if PYTHON_FLAVOR not in model.flavors:
        raise NotConvertible(f"{what} can't run as Python: it was logged without the flavor {PYTHON_FLAVOR}")
    if not may_run_code():
        raise NotConvertible(f"{what} can't run as Python, because {CODE_VARIABLE} is false")
    if request.outputs:
        raise NotConvertible(f"{what} runs as Python and answers what pyfunc does; omit the option outputs")
    about = {
        "format": FORMAT,
        "environment": environment(request.environment, model.path, what),
        "replicas": request.replicas,
        "inputs": "parcel",
    }
    return Deployable(
        flavor=request.flavor,
        backend=PYTHON,
        blob=archived(model.path, about, what),
        mapping=parcel_mapping(model.signature),
        reference=pyfunc_reference(model),
        tf_inputs=(INPUT,),
        tf_outputs=(OUTPUT,),
        notes=() if request.flavor in FLAVORS else (f"runs as Python: {reason_of(request.flavor).why}",),
    )


def parcel_mapping(signature: Any) -> Mapping:
    """Return the mapping of a model that takes parcels. The signature only tells what values in JSON mean."""
    declared = getattr(signature, "params", None)
    return Mapping(
        inputs=(Input(INPUT, dtypes.UINT8, (None,)),),
        outputs=(Output(OUTPUT, dtypes.UINT8),),
        fetch=(0,),
        answer=Answer("like input", (Part(OUTPUT),)),  # unused, and none that is known to be made in no time
        schema=None if signature is None else _schema(signature.inputs),
        precision=dtypes.DOUBLE,
        params=() if declared is None else tuple((str(each["name"]), None) for each in declared.to_dict()),
        parcel=True,
    )


def _schema(inputs: Any) -> Schema | None:
    if inputs is None or not inputs.inputs:
        return None
    if inputs.is_tensor_spec():
        return Schema("tensors", tuple(_tensor(spec) for spec in inputs.inputs))
    return Schema("columns", tuple(_column(spec) for spec in inputs.inputs))


def _tensor(spec: Any) -> Field:
    shape = tuple(None if length == -1 else int(length) for length in spec.shape)
    return Field(spec.name, np.dtype(spec.type).name, dtypes.STRING, shape)


def _column(spec: Any) -> Field:
    name = None if spec.name is None else str(spec.name)
    numbered = isinstance(spec.name, int) and not isinstance(spec.name, bool)
    kind = getattr(spec.type, "name", str(spec.type))
    # Nothing is encoded, so no type of a tensor has to hold it.
    return Field(name, kind, dtypes.STRING, required=bool(spec.required), numbered=numbered, used=False)
