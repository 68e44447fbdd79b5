"""
The table of flavors: how each is converted, in which order they are preferred, and why the others are refused.

The order of the rows is the order of preference: a model with several flavors is deployed as the first of them, unless
the user names one. The exchange format ONNX comes first, then the libraries that models are trained with.
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
    A row: MLflow's name, the converter as `module:function`, and its backends in the order that `auto` tries them.

    The backends in `on_request` are used only if the user names them. `packages` are the distributions that the
    conversion needs. `extra` installs them; None means that the plugin itself requires them. `how` and `limits` are
    columns of docs/flavors.md.
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
        """Return the first package that isn't installed, or None. Nothing is imported, as that can take seconds."""
        return next((name for name in self.packages if find_spec(module_of(name)) is None), None)


def module_of(package: str) -> str:
    """Return the import name of a package in the table."""
    return {"scikit-learn": "sklearn", "tensorflow-cpu": "tensorflow"}.get(package, package.replace("-", "_"))


def extra_with(module: str) -> str | None:
    """Return the extra that installs a module, or None if no extra does."""
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
            how="the graph itself, in one piece and lowered to the server's versions; the client applies a ZipMap",
            limits="models over 2 GiB; outputs that are sequences or maps; operators newer than the server's",
        ),
        Flavor(
            "sklearn",
            "mlflow_redisai.models.sklearn.convert:convert",
            ("ONNX",),
            packages=("scikit-learn", "skl2onnx"),
            how="skl2onnx, in float64 where scikit-learn uses it; thresholds and missing values of trees are corrected",
            limits="estimators that skl2onnx doesn't support; functions and classes of your own (the error names the "
            "step); character n-grams in text",
            extra="sklearn",
        ),
        Flavor(
            "xgboost",
            _BOOSTING,
            ("ONNX",),
            packages=("xgboost",),
            how="trees (also DART) and linear boosters, read from XGBoost's JSON; the graph looks up text categories",
            limits="custom objectives beyond a plain sum; text categories before XGBoost 3.1 or beyond ASCII; an "
            "unseen category counts as a missing value",
            extra="xgboost",
        ),
        Flavor(
            "lightgbm",
            _BOOSTING,
            ("ONNX",),
            packages=("lightgbm",),
            how="trees read from the Booster's dump, thresholds in float64; the graph looks up text categories",
            limits="linear_tree; numeric pandas categories",
            extra="lightgbm",
        ),
        Flavor(
            "catboost",
            _BOOSTING,
            ("ONNX",),
            packages=("catboost",),
            how="trees, symmetric or not, read from CatBoost's JSON",
            limits="categorical, text and embedding features",
            extra="catboost",
        ),
        Flavor(
            "transformers",
            "mlflow_redisai.models.text.transformers:convert",
            ("ONNX", "TORCH"),
            packages=("transformers", "torch"),
            how="the network by torch.onnx, else as TorchScript; the client tokenizes with the model's own tokenizer",
            limits="tasks other than text-classification and feature-extraction; tokenizers without a fast variant",
            extra="transformers",
        ),
        Flavor(
            "sentence_transformers",
            "mlflow_redisai.models.text.sentence_transformers:convert",
            ("ONNX", "TORCH"),
            packages=("sentence-transformers", "transformers", "torch"),
            how="the whole model, including pooling, by torch.onnx, else as TorchScript; the client tokenizes",
            limits="models logged with a `task`; tokenizers without a fast variant",
            extra="transformers",
        ),
        Flavor(
            "pytorch",
            "mlflow_redisai.models.torch.convert:convert",
            ("ONNX", "TORCH"),
            packages=("torch",),
            how="torch.export programs, modules and TorchScript, by torch.onnx, else as TorchScript",
            limits="models with neither signature nor input example; outputs whose rank varies; text",
            extra="torch",
        ),
        Flavor(
            "keras",
            "mlflow_redisai.models.tensorflow.keras:convert",
            ("ONNX", "TF"),
            packages=("keras", "tensorflow-cpu", "tf2onnx"),
            how="traced by TensorFlow, then by tf2onnx, else a frozen graph",
            limits="Keras on a framework other than TensorFlow; layers that keep state between calls; lookup tables",
            extra="tensorflow",
            on_request=("TFLITE",),
        ),
        Flavor(
            "tensorflow",
            "mlflow_redisai.models.tensorflow.convert:convert",
            ("ONNX", "TF"),
            packages=("tensorflow-cpu", "keras", "tf2onnx"),
            how="Keras models, tf.Module and SavedModels with signatures: traced, then by tf2onnx, else a frozen graph",
            limits="state kept between calls; lookup tables; operators that ONNX lacks run with backend TF",
            extra="tensorflow",
            on_request=("TFLITE",),
        ),
    )
}

# For each flavor without a converter, why it is refused, and what works instead.
REFUSED: dict[str, str] = {
    "statsmodels": (
        "there is no maintained converter for its results; train the same model with scikit-learn "
        "(LinearRegression, LogisticRegression, PoissonRegressor ...) and log that"
    ),
    "prophet": (
        "Prophet computes a forecast with a program of its own, which no graph can express; forecast in advance and "
        "store the numbers, or serve it with mlflow models serve"
    ),
    "pmdarima": (
        "an ARIMA forecast continues from the end of its training data, so it isn't a function of the input; forecast "
        "in advance and store the numbers, or serve it with mlflow models serve"
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
        "an H2O model runs only inside H2O's server; train the same kind of model with XGBoost, LightGBM or "
        "scikit-learn, and log that"
    ),
    "paddle": "PaddlePaddle has no converter here; export it with paddle2onnx and log the file with the flavor onnx",
    "langchain": "a chain calls other services, which a stored graph can't do; serve it with mlflow models serve",
    "openai": "the model is hosted by OpenAI, not in the logged files; call it there, or through MLflow's AI Gateway",
    "python_function": (
        "arbitrary Python can't run inside the server; log the model that it wraps with the flavor of its own library"
    ),
}
