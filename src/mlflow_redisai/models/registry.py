"""
The table of flavors: how each is converted, in which order they are preferred, and why the others can only run as
Python.

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

# The backend that runs any model with MLflow itself, and the flavor that makes it possible.
PYTHON = "PYFUNC"
PYTHON_FLAVOR = "python_function"
PYTHON_CONVERTER = "mlflow_redisai.models.python.convert:convert"


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
        return load(self.converter)

    def missing(self) -> str | None:
        """Return the first package that isn't installed, or None. Nothing is imported, as that can take seconds."""
        return next((name for name in self.packages if find_spec(module_of(name)) is None), None)


def load(converter: str) -> Converter:
    """Return the function that is named as `module:function`."""
    module, function = converter.split(":")
    return cast(Converter, getattr(import_module(module), function))


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


@dataclass(frozen=True)
class Unconverted:
    """A flavor without a converter: why it has none, and what works where no Python models may run."""

    why: str
    instead: str

    def __str__(self) -> str:
        return f"{self.why}; {self.instead}"


_SERVE = "serve it with mlflow models serve"
_CALLS = "it calls other services, which a stored graph can't do"

# Each flavor of MLflow that has no converter. Where the server allows it, it runs as Python.
UNCONVERTED: dict[str, Unconverted] = {
    "statsmodels": Unconverted(
        "there is no maintained converter for its results",
        "train the same model with scikit-learn (LinearRegression, LogisticRegression, PoissonRegressor ...) and log "
        "that",
    ),
    "prophet": Unconverted(
        "Prophet computes a forecast with a program of its own, which no graph can express",
        f"forecast in advance and store the numbers, or {_SERVE}",
    ),
    "pmdarima": Unconverted(
        "an ARIMA forecast continues from the end of its training data, so it isn't a function of the input",
        f"forecast in advance and store the numbers, or {_SERVE}",
    ),
    "diviner": Unconverted(
        "it holds a forecast for every group of its training data",
        f"forecast in advance and store the numbers, or {_SERVE}",
    ),
    "spacy": Unconverted(
        "there is no maintained converter for its pipelines",
        f"{_SERVE}, or log a text classifier with the flavor transformers or sklearn",
    ),
    "johnsnowlabs": Unconverted("its pipelines run only inside Spark", _SERVE),
    "spark": Unconverted(
        "a Spark pipeline runs only inside Spark",
        "train its last stage with scikit-learn, XGBoost or LightGBM, and log that",
    ),
    "h2o": Unconverted(
        "an H2O model runs only inside H2O's server",
        "train the same kind of model with XGBoost, LightGBM or scikit-learn, and log that",
    ),
    "paddle": Unconverted(
        "PaddlePaddle has no converter here", "export it with paddle2onnx and log the file with the flavor onnx"
    ),
    "fastai": Unconverted(
        "a fastai learner prepares its input with Python", "log the PyTorch module in it with the flavor pytorch"
    ),
    "diffusers": Unconverted("a diffusion pipeline is a loop in Python over several networks", _SERVE),
    "shap": Unconverted("an explanation asks the explained model many times", _SERVE),
    "langchain": Unconverted(_CALLS, _SERVE),
    "llama_index": Unconverted(_CALLS, _SERVE),
    "dspy": Unconverted(_CALLS, _SERVE),
    "promptflow": Unconverted(_CALLS, _SERVE),
    "openai": Unconverted(
        "the model is hosted by OpenAI, not in the logged files", "call it there, or through MLflow's AI Gateway"
    ),
    PYTHON_FLAVOR: Unconverted(
        "arbitrary Python can't be made a graph", "log the model that it wraps with the flavor of its own library"
    ),
}


def reason_of(flavor: str) -> Unconverted:
    """Return why a flavor without a converter has none. Flavors from elsewhere may have any name."""
    return UNCONVERTED.get(flavor, Unconverted("there is no converter for it", _SERVE))
