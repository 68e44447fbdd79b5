"""
Carry out an assignment: convert the model, and ask the original for its answer to the input example.

In a process of its own, because this runs what is in the model: `child` starts it. Nothing here asks the server.
"""

from __future__ import annotations

import logging
import pickle
import sys
import traceback
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow_redisai import errors
from mlflow_redisai.deploy.assignment import Assignment, KnownAnswer, Outcome, as_value
from mlflow_redisai.deploy.choice import convert
from mlflow_redisai.deploy.verification import question
from mlflow_redisai.errors import NotConvertible, RedisAIError, first_line
from mlflow_redisai.models import model_code
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.loading import NOT_RUN, MlflowModel, may_run_code
from mlflow_redisai.models.reference import NoReference, Reference
from mlflow_redisai.models.registry import PYTHON


def carry_out(assignment: Assignment) -> Outcome:
    """Return the outcome, whatever the model raises."""
    try:
        with errors.of_codec():
            deployable = _convert(assignment)
        return Outcome(
            deployable=replace(deployable, mapping=None),  # type: ignore[arg-type]
            mapping=deployable.mapping.to_json(),
        )
    except RedisAIError as error:
        found = error
    # A model may raise anything while it is loaded, and leave by sys.exit.
    except BaseException as error:
        said = first_line(error)
        kind = "" if said == type(error).__name__ else f"{type(error).__name__}: "
        found = NotConvertible(f"the {assignment.flavor} model {assignment.uri} can't be converted: {kind}{said}")
        found.__cause__ = error
    return Outcome(error=found, trace="".join(traceback.format_exception(found)))


def _convert(assignment: Assignment) -> Deployable:
    model = MlflowModel(assignment.uri, Path(assignment.path))
    if not may_run_code() and assignment.backend != PYTHON:
        model_code.refuse_code(model, assignment.flavor)
    deployable = convert(
        model,
        flavor=assignment.flavor,
        backend=assignment.backend,
        opset=assignment.opset,
        limits=assignment.limits,
        outputs=assignment.outputs,
        environment=assignment.environment,
        replicas=assignment.replicas,
    )
    return replace(deployable, reference=_as_values(assignment, deployable, model))


def _as_values(assignment: Assignment, deployable: Deployable, model: MlflowModel) -> Reference | NoReference:
    """Return the reference with the answer that verification asks for, instead of the model that gives it."""
    reference, example = deployable.reference, question(deployable, model)
    if isinstance(reference, NoReference):
        return reference
    if not may_run_code():
        return NoReference(NOT_RUN)
    if example is None or not assignment.compare:
        return Reference(reference.kind, KnownAnswer(failure="it was not asked"))
    try:
        return Reference(reference.kind, KnownAnswer(as_value(reference.answer(example))))
    # What the model itself can't answer is for the verification to report.
    except Exception as error:
        return Reference(reference.kind, KnownAnswer(failure=first_line(error)))


def behave_as_the_caller(assignment: Assignment) -> set[str]:
    """
    Show the warnings and logs that the caller would show, and have a `__main__` with the classes of the caller's.

    A pickle names a class by module and name. The set that is returned grows by the names that `__main__` lacks.
    """
    wanted: set[str] = set()
    warnings.resetwarnings()  # also forgets which warnings were shown before
    warnings.filters[:] = list(assignment.warning_filters)  # type: ignore[index]
    for name, level in assignment.log_levels.items():
        logging.getLogger(name).setLevel(level)

    def look_up(name: str) -> Any:
        if name not in assignment.main:
            wanted.add(name)
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        return pickle.loads(assignment.main[name])  # from this plugin  # nosec B301

    main: Any = sys.modules["__main__"]
    main.__getattr__ = look_up
    return wanted
