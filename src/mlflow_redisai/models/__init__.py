"""
MLflow model → something the server runs: `open_model`, `choose_flavor`, `convert`.

Which flavors there are is the table in `registry`; each family has one file. This file only chooses and checks.
"""

from __future__ import annotations

from dataclasses import replace

from mlflow_redisai.errors import FlavorMissing, NotConvertible
from mlflow_redisai.models.base import Deployable, Request, ServerLimits
from mlflow_redisai.models.loading import LoadedModel, open_model
from mlflow_redisai.models.registry import FLAVORS, REFUSED

__all__ = ["Deployable", "LoadedModel", "ServerLimits", "choose_flavor", "convert", "open_model"]


def choose_flavor(model: LoadedModel, flavor: str | None = None) -> str:
    """Gives the flavor to deploy: the one asked for, else the first of the table that the model has."""
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
    model: LoadedModel,
    *,
    flavor: str,
    backend: str = "auto",
    opset: int | None = None,
    limits: ServerLimits | None = None,
    outputs: str | None = None,
) -> Deployable:
    """
    Turns `model` into a Deployable. `opset` overrides the server's limit, `outputs` names outputs, separated by commas.

    Raises NotConvertible naming the estimator, operator or version that stands in the way.
    """
    row = FLAVORS[flavor]
    if backend != "auto" and backend not in row.backends:
        raise NotConvertible(
            f"the flavor {flavor} can't be deployed with backend {backend}; allowed are auto, {', '.join(row.backends)}"
        )
    limits = limits or ServerLimits()
    if opset is not None:
        limits = replace(limits, opset=opset)
    names = tuple(name.strip() for name in outputs.split(",") if name.strip()) if outputs else ()
    return row.load()(model, Request(flavor, backend, limits, names))


def _asked_for(model: LoadedModel, flavor: str) -> str:
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


def _shown(model: LoadedModel) -> list[str]:
    """Every model has python_function beside its own flavor; it is named only if it is all there is."""
    own = [name for name in model.flavors if name != "python_function"]
    return own or list(model.flavors)
