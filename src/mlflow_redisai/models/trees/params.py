"""
The parameters of a model's signature, as MLflow's flavor xgboost passes them to `predict`.

pyfunc applies the defaults of the signature to every request. So a conversion must too. The flavors lightgbm and
catboost drop all parameters. A request with another value than the default is refused by the codec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.loading import MlflowModel

# Parameters that change the answer into something that no graph computes, unless they are false. Those that aren't
# named in this module have no effect on the answer.
_NOT_HONOURED = ("pred_leaf", "pred_contribs", "pred_interactions", "training", "strict_shape", "base_margin")


@dataclass(frozen=True)
class Asked:
    """What `predict` is asked for: scores instead of predictions, and the rounds of training from first to last."""

    margin: bool = False
    rounds: tuple[int, int] | None = None


def asked_of(model: MlflowModel, flavor: str) -> Asked:
    """Return what the defaults of the signature's parameters ask for. Raise NotConvertible for one that can't be."""
    defaults = defaults_of(model) if flavor == "xgboost" else {}
    for name in _NOT_HONOURED:
        if defaults.get(name):
            raise NotConvertible(
                f"the signature's parameter {name} is {defaults[name]!r} by default, which ONNX can't express; "
                "honoured are output_margin and iteration_range"
            )
    return Asked(bool(defaults.get("output_margin", False)), _rounds(defaults))


def defaults_of(model: MlflowModel) -> dict[str, Any]:
    """Return the default of every parameter in the model's signature, by name."""
    params = None if model.signature is None else getattr(model.signature, "params", None)
    return {} if params is None else {spec.name: spec.default for spec in params.params}


def _rounds(defaults: Mapping[str, Any]) -> tuple[int, int] | None:
    found = defaults.get("iteration_range")
    if found is None or len(found) != 2 or int(found[1]) == 0:
        return None
    return int(found[0]), int(found[1])
