"""
The options that were logged with a text model: of its `model_config`, and the defaults of its signature's `params`.

mlflow.pyfunc passes them to the library at every prediction. A converter takes those that it honours, and the rest is
refused here by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping as Dictionary
from typing import Any

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.base import Request
from mlflow_redisai.models.loading import MlflowModel


def logged_options(model: MlflowModel) -> dict[str, Any]:
    """Return the options that pyfunc passes if a request has none: `params` take precedence over `model_config`."""
    schema = getattr(model.signature, "params", None)
    defaults = {item.name: item.default for item in schema.params} if schema is not None else {}
    return {**_configuration(model), **defaults}


def _configuration(model: MlflowModel) -> dict[str, Any]:
    # Older versions of MLflow wrote a file, which pyfunc prefers.
    old = model.path / "components" / "inference_config.txt"
    if old.is_file():
        return dict(json.loads(old.read_text()))
    return dict(model.meta.flavors.get("python_function", {}).get("config") or {})


def refuse_others(options: Dictionary[str, Any], known: Dictionary[str, str], what: str) -> None:
    """Raise NotConvertible for an option that isn't `known`. `known` says of each which values it may have."""
    for name, value in options.items():
        if name not in known:
            allowed = ", ".join(f"{each} ({values})" for each, values in known.items())
            raise NotConvertible(
                f"{what} was logged with the option {name}={value!r}, which a stored model can't honour; "
                f"allowed are {allowed}"
            )


def refused(what: str, name: str, value: Any, allowed: str) -> NotConvertible:
    """Return the error for a known option with a value that can't be honoured."""
    return NotConvertible(
        f"{what} was logged with the option {name}={value!r}, which a stored model can't honour; allowed is {allowed}"
    )


def refuse_outputs(request: Request, what: str) -> None:
    """Raise NotConvertible if the user chose outputs: a text model has one answer, made of all of them."""
    if request.outputs:
        raise NotConvertible(
            f"{what} has one answer, so outputs can't be chosen ({', '.join(request.outputs)}); "
            "deploy it without -C outputs"
        )
