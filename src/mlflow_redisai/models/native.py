"""
Load a model as the library has it that it was trained with.

Only for libraries whose MLflow flavor needs no arguments of its own; the others load in their converters.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mlflow_redisai.errors import MissingConverter, NotConvertible, first_line
from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.registry import extra_with


def load_native(model: MlflowModel, flavor: str) -> Any:
    """
    Return the model as mlflow.FLAVOR.load_model has it. Unpickling runs the code of whatever is inside.

    Raise MissingConverter for a library that is not installed and that an extra brings, NotConvertible for all else.
    """
    try:
        return import_module(f"mlflow.{flavor}").load_model(str(model.path))
    except Exception as error:
        module = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
        extra = extra_with(module)
        if extra is not None:
            raise MissingConverter(flavor, module, extra) from error
        raise NotConvertible(f"the {flavor} model {model.uri} can't be loaded: {first_line(error)}") from error
