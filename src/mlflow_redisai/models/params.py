"""
The parameters of a model's signature, which a request may set in `params`.

A graph has none: it answers for one value of each, the default. pyfunc passes the defaults on in some flavors, so a
default that isn't the library's own would change the answer.

Invariant: a deployment's mapping names every parameter of the signature, each with its default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.native import load_native

# The function that pyfunc passes parameters to, by flavor. In all other flavors, pyfunc leaves them out, except for
# transformers, where they become part of a configuration.
_TAKERS: dict[str, Callable[[Any], Any]] = {
    "xgboost": lambda booster: booster.predict,
    "pytorch": lambda module: module.forward,
    "sentence_transformers": lambda encoder: encoder.encode,
}


def params_of(model: MlflowModel, flavor: str) -> tuple[tuple[str, Any], ...]:
    """
    Return the names and defaults of the signature's parameters, as JSON has them.

    Raise NotConvertible for a default that pyfunc passes on, and that isn't the library's own.
    """
    declared = getattr(model.signature, "params", None)
    if declared is None:
        return ()
    found = tuple((str(each["name"]), each.get("default")) for each in declared.to_dict())
    if flavor in _TAKERS and found:
        _check_defaults(found, _TAKERS[flavor](load_native(model, flavor)))
    if flavor == "transformers" and any(default is not None for _, default in found):
        name, default = next(pair for pair in found if pair[1] is not None)
        raise NotConvertible(
            f"the signature's parameter {name} has the default {default!r}, which transformers merges into the "
            "pipeline's configuration; log the model without params"
        )
    return found


def _check_defaults(params: tuple[tuple[str, Any], ...], function: Any) -> None:
    try:
        own = inspect.signature(function).parameters
    # TorchScript's methods have none that Python can read.
    except (TypeError, ValueError):
        return
    for name, default in params:
        known = own.get(name)
        if known is not None and known.default is not default and known.default != default:
            needed = "has none" if known.default is inspect.Parameter.empty else f"has {known.default!r}"
            raise NotConvertible(
                f"the signature's parameter {name} has the default {default!r}, but the model's own "
                f"{function.__name__} {needed}, and a deployment answers only for that; log the model without it"
            )
