"""
The table of flavors: how each is converted, in which order they are preferred, and why the others can't be.

The order is the order of the rows: a model that has several flavors is deployed as the first of them, unless the user
names one. A model's own exchange format comes first, then the library it was trained with.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import cast

from mlflow_redisai.models.base import Converter


@dataclass(frozen=True)
class Flavor:
    """
    A row: MLflow's name, `module:function` of the converter, its backends in the order that `auto` tries.

    `on_request` are those that are used only if the user names them.
    """

    name: str
    converter: str
    backends: tuple[str, ...]
    on_request: tuple[str, ...] = ()

    def load(self) -> Converter:
        module, function = self.converter.split(":")
        return cast(Converter, getattr(import_module(module), function))


FLAVORS: dict[str, Flavor] = {
    row.name: row
    for row in (
        Flavor("onnx", "mlflow_redisai.models.onnx:convert", ("ONNX",)),
        Flavor("sklearn", "mlflow_redisai.models.sklearn:convert", ("ONNX",)),
        Flavor("xgboost", "mlflow_redisai.models.boosting:convert", ("ONNX",)),
        Flavor("lightgbm", "mlflow_redisai.models.boosting:convert", ("ONNX",)),
        Flavor("catboost", "mlflow_redisai.models.boosting:convert", ("ONNX",)),
        Flavor("transformers", "mlflow_redisai.models.transformers:convert", ("ONNX", "TORCH")),
        Flavor("sentence_transformers", "mlflow_redisai.models.sentence_transformers:convert", ("ONNX", "TORCH")),
        Flavor("pytorch", "mlflow_redisai.models.pytorch:convert", ("ONNX", "TORCH")),
        Flavor("keras", "mlflow_redisai.models.keras:convert", ("ONNX", "TF"), ("TFLITE",)),
        Flavor("tensorflow", "mlflow_redisai.models.tensorflow:convert", ("ONNX", "TF"), ("TFLITE",)),
    )
}

# Why a flavor without a row can't be deployed, and what would work instead.
REFUSED: dict[str, str] = {
    "spark": "a Spark pipeline runs only inside Spark; train the final model with scikit-learn or XGBoost and log that",
    "prophet": "a Prophet forecast is computed by its own library; log the forecast's result, or serve it with pyfunc",
    "statsmodels": "no maintained converter exists; log the coefficients as a scikit-learn linear model",
    "spacy": "no maintained converter exists; serve it with mlflow models serve",
    "python_function": "arbitrary Python can't run inside the server; log the model inside it with its own flavor",
}
