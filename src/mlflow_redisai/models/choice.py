"""
Choose a flavor and a backend for a model, and convert it.

Which flavors there are is the table in `registry`; each has a converter of its own. This file only chooses and checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from mlflow_redisai.errors import FlavorMissing, MissingConverter, NotConvertible, RedisAIError
from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.registry import FLAVORS, REFUSED
from mlflow_redisai.server.limits import ServerLimits

Attempt = TypeVar("Attempt")


def choose_flavor(model: MlflowModel, flavor: str | None = None) -> str:
    """Return the flavor to deploy: the one asked for, else the first of the table that the model has."""
    if flavor is not None:
        return _asked_for(model, flavor)
    for name in FLAVORS:
        if name in model.flavors:
            return name
    reasons = "; ".join(f"{name}: {REFUSED.get(name, 'not supported')}" for name in _shown(model))
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
) -> Deployable:
    """
    Convert `model`. `opset` overrides the server's limit, `outputs` names outputs, separated by commas.

    With `auto` the flavor's backends are tried in the order of the table. Raise MissingConverter before anything is
    done if a package of the flavor's row is missing, whichever backend it is for, and NotConvertible naming the
    estimator, operator or version that stands in the way.
    """
    _check_installed(flavor)
    limits = limits or ServerLimits()
    if opset is not None:
        limits = replace(limits, opset=opset)
    names = tuple(name.strip() for name in outputs.split(",") if name.strip()) if outputs else ()
    converter = FLAVORS[flavor].load()
    deployable, notes = first_backend_that_works(
        flavor, backend, lambda each: converter(model, Request(flavor, each, limits, names)), (NotConvertible,)
    )
    return replace(deployable, notes=(*deployable.notes, *notes))


def _check_installed(flavor: str) -> None:
    row = FLAVORS[flavor]
    missing = row.missing()
    if missing and row.extra:
        raise MissingConverter(flavor, missing.removesuffix("-cpu"), row.extra)


def first_backend_that_works(
    flavor: str, backend: str, attempt: Callable[[str], Attempt], refusals: tuple[type[RedisAIError], ...]
) -> tuple[Attempt, tuple[str, ...]]:
    """
    Return what `attempt` made of the first backend that raised no refusal, and sentences on those before it.

    Raise the refusal if there is only one, or NotConvertible with all of them.
    """
    refused: dict[str, RedisAIError] = {}
    for each in _backends(flavor, backend):
        try:
            made = attempt(each)
        except refusals as refusal:
            refused[each] = refusal
        else:
            return made, tuple(
                f"deployed with backend {each}, not {other}: {why.reason}" for other, why in refused.items()
            )
    # What no backend has to do with is said once.
    if len({why.message for why in refused.values()}) == 1:
        raise next(iter(refused.values()))
    raise NotConvertible("; ".join(f"with backend {each}: {why.message}" for each, why in refused.items()))


def _backends(flavor: str, backend: str) -> tuple[str, ...]:
    """Return the backends to try: all of the flavor's, or the one that the user named."""
    row = FLAVORS[flavor]
    if backend == "auto":
        return row.backends
    allowed = (*row.backends, *row.on_request)
    if backend not in allowed:
        raise NotConvertible(
            f"the flavor {flavor} can't be deployed with backend {backend}; allowed are auto, {', '.join(allowed)}"
        )
    return (backend,)


def _asked_for(model: MlflowModel, flavor: str) -> str:
    if flavor not in model.flavors:
        raise FlavorMissing(
            f"the model {model.uri} has no flavor {flavor!r}; it has {', '.join(model.flavors) or 'none'}"
        )
    if flavor not in FLAVORS:
        reason = REFUSED.get(flavor, "there is no converter for it")
        raise NotConvertible(
            f"the flavor {flavor} can't be deployed: {reason}; deployable flavors are {', '.join(FLAVORS)}"
        )
    return flavor


def _shown(model: MlflowModel) -> list[str]:
    """Return the flavors to name: python_function, which every model has, only if it is all there is."""
    own = [name for name in model.flavors if name != "python_function"]
    return own or list(model.flavors)
