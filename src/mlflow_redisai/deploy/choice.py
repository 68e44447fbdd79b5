"""
Choose a flavor and a backend for a model, and convert it.

The table in `registry` lists the flavors and names a converter for each. This module only chooses and checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from mlflow_redisai.errors import DeviceRefused, FlavorMissing, MissingConverter, NotConvertible, RedisAIError
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.registry import FLAVORS, PYTHON, PYTHON_CONVERTER, PYTHON_FLAVOR, load, reason_of
from mlflow_redisai.models.signature import params_of
from mlflow_redisai.models.trials.checks import with_sample
from mlflow_redisai.models.trials.independence import measured
from mlflow_redisai.server.limits import ServerLimits, limits_of

Attempt = TypeVar("Attempt")


def choose_flavor(model: MlflowModel, flavor: str | None = None, *, python: bool = False) -> str:
    """
    Return the flavor to deploy: `flavor` if given, else the first flavor in the table that the model has.

    With `python`, a model without such a flavor runs as Python. Raise FlavorMissing if the model lacks `flavor`, and
    NotConvertible if no converter takes it and it can't run as Python.
    """
    python = python and PYTHON_FLAVOR in model.flavors
    if flavor is not None:
        return _asked_for(model, flavor, python=python)
    for name in FLAVORS:
        if name in model.flavors:
            return name
    if python:
        return _shown(model)[0]
    reasons = "; ".join(f"{name}: {reason_of(name)}" for name in _shown(model))
    raise NotConvertible(
        f"the model {model.uri} has no flavor that can be deployed ({reasons}); "
        f"deployable flavors are {', '.join(FLAVORS)}"
    )


def convert(
    model: MlflowModel,
    *,
    flavor: str,
    backend: str = "auto",
    opset: int | None = None,
    limits: ServerLimits | None = None,
    outputs: str | None = None,
    environment: str = "uv",
    replicas: int = 1,
) -> Deployable:
    """
    Convert `model` for `backend`. `opset` overrides the server's limit. `outputs` names outputs, separated by commas.

    With `auto`, try the flavor's backends in the order of the table. Raise MissingConverter first of all if any package
    in the flavor's row is missing, even one that only another backend needs. Raise NotConvertible, naming the
    estimator, operator or version that prevents the conversion. `environment` and `replicas` are for the backend
    PYFUNC, which nothing is converted for.
    """
    if backend == PYTHON:
        names = tuple(outputs.split(",")) if outputs else ()
        request = Request(flavor, backend, outputs=names, environment=environment, replicas=replicas)
        return load(PYTHON_CONVERTER)(model, request)
    _check_installed(flavor)
    limits = limits or limits_of(None)
    if opset is not None:
        limits = replace(limits, opset=opset)
    names = tuple(name.strip() for name in outputs.split(",") if name.strip()) if outputs else ()
    converter = FLAVORS[flavor].load()
    params = params_of(model, flavor)
    deployable, notes = first_backend_that_works(
        flavor, backend, lambda each: converter(model, Request(flavor, each, limits, names)), (NotConvertible,)
    )
    deployable = measured(deployable, model.input_example, f"the model {model.uri}")
    if model.input_example is None:
        deployable = with_sample(deployable)
    mapping = replace(deployable.mapping, params=params)
    return replace(deployable, mapping=mapping, notes=(*deployable.notes, *notes))


def _check_installed(flavor: str) -> None:
    row = FLAVORS[flavor]
    missing = row.missing()
    if missing and row.extra:
        raise MissingConverter(flavor, missing.removesuffix("-cpu"), row.extra)


def first_backend_that_works(
    flavor: str,
    backend: str,
    attempt: Callable[[str], Attempt],
    refusals: tuple[type[RedisAIError], ...],
    *,
    python: bool = False,
) -> tuple[Attempt, tuple[str, ...]]:
    """
    Return the result of `attempt` for the first backend that isn't refused, and a note on each backend refused first.

    An exception of a type in `refusals` is a refusal; all others pass through. If every backend is refused, raise the
    refusal if they all say the same, else NotConvertible with all of them. With `python`, the last backend that `auto`
    tries is PYFUNC, except where another lacks the device: Python would go on with the CPU instead.
    """
    refused: dict[str, RedisAIError] = {}
    for each in _backends(flavor, backend, python=python):
        if each == PYTHON and any(isinstance(why, DeviceRefused) for why in refused.values()):
            break
        try:
            made = attempt(each)
        except refusals as refusal:
            refused[each] = refusal
        else:
            return made, tuple(
                f"deployed with backend {each} instead of {other}: {why.reason}" for other, why in refused.items()
            )
    # A problem that has nothing to do with the backend is reported once.
    if len({why.message for why in refused.values()}) == 1:
        raise next(iter(refused.values()))
    raise NotConvertible("; ".join(f"with backend {each}: {why.message}" for each, why in refused.items()))


def _backends(flavor: str, backend: str, *, python: bool) -> tuple[str, ...]:
    """Return the backends to try: the flavor's own for `auto`, else the one that the user named."""
    row = FLAVORS.get(flavor)
    last = (PYTHON,) if python else ()
    if backend == "auto":
        return last if row is None else (*row.backends, *last)
    allowed = last if row is None else (*row.backends, *row.on_request, *last)
    if backend not in allowed:
        raise NotConvertible(
            f"the flavor {flavor} can't be deployed with backend {backend}; allowed are auto, {', '.join(allowed)}"
        )
    return (backend,)


def _asked_for(model: MlflowModel, flavor: str, *, python: bool) -> str:
    if flavor not in model.flavors:
        raise FlavorMissing(
            f"the model {model.uri} has no flavor {flavor!r}; it has {', '.join(model.flavors) or 'none'}"
        )
    if flavor not in FLAVORS and not python:
        raise NotConvertible(
            f"the flavor {flavor} can't be deployed: {reason_of(flavor)}; deployable flavors are {', '.join(FLAVORS)}"
        )
    return flavor


def _shown(model: MlflowModel) -> list[str]:
    """Return the flavors to name in an error. python_function, which nearly every model has, is named only if alone."""
    own = [name for name in model.flavors if name != PYTHON_FLAVOR]
    return own or list(model.flavors)
