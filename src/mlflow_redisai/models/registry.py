"""
The table of flavors: how each is converted, in which order they are preferred, and why the others can't be.

The order is the order of the rows: a model that has several flavors is deployed as the first of them, unless the user
names one. A model's own exchange format comes first, then the library it was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import cast

from mlflow_redisai.models.base import Deployable, Request
from mlflow_redisai.models.loading import MlflowModel

Converter = Callable[[MlflowModel, Request], Deployable]


@dataclass(frozen=True)
class Flavor:
    """
    A row: MLflow's name, `module:function` of the converter, its backends in the order that `auto` tries.

    `on_request` are those that are used only if the user names them. `packages` are what the conversion relies on,
    `extra` brings them, None: they are always there. `how` and `limits` are for docs/flavors.md.
    """

    name: str
    converter: str
    backends: tuple[str, ...]
    packages: tuple[str, ...]
    how: str
    limits: str
    extra: str | None = None
    on_request: tuple[str, ...] = ()

    def load(self) -> Converter:
        module, function = self.converter.split(":")
        return cast(Converter, getattr(import_module(module), function))

    def missing(self) -> str | None:
        """Return the first of the packages that isn't installed. None is imported, which can take seconds."""
        return next((name for name in self.packages if find_spec(module_of(name)) is None), None)


def module_of(package: str) -> str:
    """Return the name that a package of the table is imported by."""
    return {"scikit-learn": "sklearn", "tensorflow-cpu": "tensorflow"}.get(package, package.replace("-", "_"))


def extra_with(module: str) -> str | None:
    """Return the extra that brings a module, None if none of them does."""
    return next((row.extra for row in FLAVORS.values() if module in map(module_of, row.packages)), None)


_BOOSTING = "mlflow_redisai.models.trees.convert:convert"

FLAVORS: dict[str, Flavor] = {
    row.name: row
    for row in (
        Flavor(
            "onnx",
            "mlflow_redisai.models.onnx.convert:convert",
            ("ONNX",),
            packages=("onnx", "onnxruntime"),
            how="the graph itself, in one piece and lowered to the server's versions; a ZipMap is done by the client",
            limits="2 GB; outputs that are sequences or maps; operators newer than the server",
        ),
        Flavor(
            "sklearn",
            "mlflow_redisai.models.sklearn.convert:convert",
            ("ONNX",),
            packages=("scikit-learn", "skl2onnx"),
            how="skl2onnx, in float64 where scikit-learn computes so, with the trees' bounds and gaps put right",
            limits="estimators that skl2onnx doesn't know, functions and classes of the user's own (the step is "
            "named); text: words only, no character n-grams",
            extra="sklearn",
        ),
        Flavor(
            "xgboost",
            _BOOSTING,
            ("ONNX",),
            packages=("xgboost",),
            how="trees (DART too) and linear boosters read from XGBoost's JSON; text categories are looked up",
            limits="objectives of the user's own beyond a plain sum; text categories need XGBoost 3.1; a category "
            "never seen counts as a gap",
            extra="xgboost",
        ),
        Flavor(
            "lightgbm",
            _BOOSTING,
            ("ONNX",),
            packages=("lightgbm",),
            how="trees read from what the Booster dumps, bounds in float64; text categories are looked up",
            limits="linear_tree; pandas categories that are numbers",
            extra="lightgbm",
        ),
        Flavor(
            "catboost",
            _BOOSTING,
            ("ONNX",),
            packages=("catboost",),
            how="trees read from CatBoost's JSON, symmetric or not",
            limits="features that are categories, text or embeddings; RMSEWithUncertainty",
            extra="catboost",
        ),
        Flavor(
            "transformers",
            "mlflow_redisai.models.text.transformers:convert",
            ("ONNX", "TORCH"),
            packages=("transformers", "torch"),
            how="the network by torch.onnx, else traced; the client makes the tokens, with the model's own tokenizer",
            limits="tasks other than text-classification and feature-extraction; tokenizers without a fast variant",
            extra="transformers",
        ),
        Flavor(
            "sentence_transformers",
            "mlflow_redisai.models.text.sentence_transformers:convert",
            ("ONNX", "TORCH"),
            packages=("sentence-transformers", "transformers", "torch"),
            how="the whole model, pooling included, by torch.onnx, else traced; the client makes the tokens",
            limits="models logged with a task; tokenizers without a fast variant",
            extra="transformers",
        ),
        Flavor(
            "pytorch",
            "mlflow_redisai.models.torch.convert:convert",
            ("ONNX", "TORCH"),
            packages=("torch",),
            how="torch.export programs, modules and TorchScript by torch.onnx, else as TorchScript",
            limits="models without signature and example; outputs that change their rank; text",
            extra="torch",
        ),
        Flavor(
            "keras",
            "mlflow_redisai.models.tensorflow.keras:convert",
            ("ONNX", "TF"),
            packages=("keras", "tensorflow-cpu", "tf2onnx"),
            how="traced by TensorFlow, then tf2onnx, else a frozen graph",
            limits="Keras on another framework than TensorFlow; layers that keep state between answers; lookup tables",
            extra="tensorflow",
            on_request=("TFLITE",),
        ),
        Flavor(
            "tensorflow",
            "mlflow_redisai.models.tensorflow.convert:convert",
            ("ONNX", "TF"),
            packages=("tensorflow-cpu", "keras", "tf2onnx"),
            how="Keras models, tf.Module and SavedModels with signatures: traced, then tf2onnx, else a frozen graph",
            limits="state between answers; lookup tables; operators that ONNX lacks run with backend TF",
            extra="tensorflow",
            on_request=("TFLITE",),
        ),
    )
}

# Why a flavor without a row can't be deployed, and what would work instead.
REFUSED: dict[str, str] = {
    "statsmodels": (
        "there is no maintained converter for its results; train the same model with scikit-learn "
        "(LinearRegression, LogisticRegression, PoissonRegressor ...) and log that"
    ),
    "prophet": (
        "a Prophet forecast is computed by its own program, not by a graph; predict ahead and store the numbers, "
        "or serve it with mlflow models serve"
    ),
    "pmdarima": (
        "an ARIMA forecast goes on from the end of its training data, which no graph of inputs does; predict ahead and "
        "store the numbers, or serve it with mlflow models serve"
    ),
    "spacy": (
        "there is no maintained converter for its pipelines; serve it with mlflow models serve, or log a text "
        "classifier with the flavor transformers or sklearn"
    ),
    "spark": (
        "a Spark pipeline runs only inside Spark; train its last stage with scikit-learn, XGBoost or LightGBM, and log "
        "that"
    ),
    "h2o": (
        "an H2O model runs only inside H2O's server; train the same kind with XGBoost, LightGBM or scikit-learn, "
        "and log that"
    ),
    "paddle": "there is no converter here for PaddlePaddle; export it with paddle2onnx and log the flavor onnx",
    "langchain": "a chain calls other services, and a stored graph can't; serve it with mlflow models serve",
    "openai": "the model is with OpenAI, not in the files; call it there, or through MLflow's AI Gateway",
    "python_function": (
        "arbitrary Python can't run inside the server; log the model inside it with the flavor of its own library"
    ),
}
