"""
Loading a model with the library that it was trained with.

This serves flavors whose `load_model` needs no arguments but the path. Converters of the others load models
themselves.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mlflow_redisai.errors import MissingConverter, NotConvertible, first_line
from mlflow_redisai.models.loading import MlflowModel, may_run_code
from mlflow_redisai.models.model_code import load_skops
from mlflow_redisai.models.registry import extra_with


def load_native(model: MlflowModel, flavor: str) -> Any:
    """
    Return the model as mlflow.FLAVOR.load_model loads it. Unpickling may run code that the model contains.

    Raise MissingConverter if a library that one of our extras brings is not installed, NotConvertible for any other
    failure.
    """
    if flavor == "sklearn" and not may_run_code():
        return load_skops(model)
    try:
        return import_module(f"mlflow.{flavor}").load_model(str(model.path))
    except Exception as error:
        module = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
        extra = extra_with(module)
        if extra is not None:
            raise MissingConverter(flavor, module, extra) from error
        raise NotConvertible(f"the {flavor} model {model.uri} can't be loaded: {first_line(error)}") from error
