"""Keras and TensorFlow models, fitted to data sets of scikit-learn, saved with MLflow, run by the engine's backends."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlflow_redisai.deploy.choice import choose_flavor, convert
from mlflow_redisai.models.base import Deployable
from mlflow_redisai.models.loading import open_model
from mlflow_redisai.server.limits import ServerLimits
from redisai_engine.backends.base import Backend, BackendSettings
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.prediction import Run
from redisai_engine.protocol.tensor import Tensor
from support.local_runs import Deployed


def cancer() -> tuple[np.ndarray, np.ndarray]:
    """Return 569 rows of 30 numbers around zero, and their classes. The first 300 are for training."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    scaled = (data.data - data.data.mean(0)) / data.data.std(0)
    return scaled.astype(np.float32), data.target.astype(np.int64)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return 1797 images of 8 x 8 pixels from 0 to 1, and their digits. The first 1000 are for training."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / 16).astype(np.float32), data.target.astype(np.int64)


# -- Keras ----------------------------------------------------------------------------------------


def train(model: Any, inputs: Any, targets: Any, loss: Any = "sparse_categorical_crossentropy") -> Any:
    """Train for two epochs, enough for weights that aren't the initial ones. Return the model."""
    model.compile("adam", loss)
    model.fit(inputs, targets, epochs=2, batch_size=64, verbose=0)
    return model


def sequential(activation: str = "relu", *, normalize: bool = False) -> Any:
    """Return a classifier of the cancer data."""
    import keras

    rows, labels = cancer()
    layers: list[Any] = [keras.layers.Dense(16, activation), keras.layers.Dense(2, "softmax")]
    if normalize:
        first = keras.layers.Normalization()
        first.adapt(rows[:300])
        layers.insert(0, first)
    return train(keras.Sequential([keras.Input((30,)), *layers]), rows[:300], labels[:300])


def pictures(kind: str) -> Any:
    """Return a classifier of the digits, as images of one channel, or with the rows of an image as time steps."""
    import keras

    layers = {
        "convolution": lambda: [
            keras.layers.Reshape((8, 8, 1)),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Dropout(0.2),
            keras.layers.Flatten(),
        ],
        "lstm": lambda: [keras.layers.LSTM(16)],
        "gru": lambda: [keras.layers.Bidirectional(keras.layers.GRU(8))],
    }[kind]()
    images, labels = digits()
    model = keras.Sequential([keras.Input((8, 8)), *layers, keras.layers.Dense(10, "softmax")])
    return train(model, images[:1000], labels[:1000])


def tokens() -> tuple[np.ndarray, np.ndarray]:
    """Return each digit as 64 shades, numbers from 0 to 16, and the digits."""
    images, labels = digits()
    return np.rint(images * 16).astype(np.int64).reshape(-1, 64), labels


def transformer() -> Any:
    """Return a model with embedding, self-attention and normalization over token ids."""
    import keras

    ids, labels = tokens()
    given = keras.Input((64,), dtype="int64", name="ids")
    embedded = keras.layers.Embedding(17, 8)(given)
    attended = keras.layers.MultiHeadAttention(2, 4)(embedded, embedded)
    mixed = keras.layers.LayerNormalization()(embedded + attended)
    pooled = keras.layers.GlobalAveragePooling1D()(mixed)
    return train(keras.Model(given, keras.layers.Dense(10, "softmax")(pooled)), ids[:300], labels[:300])


def two_headed(outputs: str) -> Any:
    """Return a model of two inputs, with two outputs as a list of unlike shapes, a list of one shape, or a dict."""
    import keras

    rows, labels = cancer()
    means, worst = keras.Input((10,), name="means"), keras.Input((20,), name="others")
    hidden = keras.layers.Dense(8, "relu")(keras.layers.Concatenate()([means, worst]))
    malign = keras.layers.Dense(1, "sigmoid", name="malign")
    kind = keras.layers.Dense(*((1, "sigmoid") if outputs == "alike" else (2, "softmax")), name="kind")
    heads = [malign(hidden), kind(hidden)]
    model = keras.Model([means, worst], heads[::-1] if outputs == "list" else heads)
    model.compile("adam", ["mse", "mse"])
    targets = [labels[:300, None].astype(np.float32), np.eye(kind.units)[labels[:300] % kind.units]]
    model.fit([rows[:300, :10], rows[:300, 10:]], targets[::-1] if outputs == "list" else targets, epochs=2, verbose=0)
    if outputs == "dict":
        return keras.Model([means, worst], {"risk": heads[0], "kind": heads[1]})
    return model


def two_inputs() -> dict[str, np.ndarray]:
    rows, _ = cancer()
    return {"means": rows[:, :10], "others": rows[:, 10:]}


def rows() -> np.ndarray:
    """Return the rows of the cancer data."""
    return cancer()[0]


@functools.cache
def classifier() -> Any:
    """Return a classifier of the cancer data that scales its input itself."""
    return sequential(normalize=True)


@functools.cache
def heads(outputs: str) -> Any:
    """Return `two_headed(outputs)`, trained only once."""
    return two_headed(outputs)


# -- tf.Module ------------------------------------------------------------------------------------


def weights() -> np.ndarray:
    """Return the weights of a linear model of the cancer data, fitted by least squares."""
    inputs, labels = cancer()
    targets = np.eye(2, dtype=np.float32)[labels[:300]]
    solution: np.ndarray = np.linalg.lstsq(inputs[:300], targets, rcond=None)[0]
    return solution.astype(np.float32)


def module(call: Callable[[Any, Any], Any], *specs: Any) -> Any:
    """Return a tf.Module with the linear model's weights. `call` takes them and the inputs."""
    import tensorflow as tf

    made = tf.Module()
    made.weights = tf.Variable(weights())
    function = tf.function(lambda *inputs: call(made.weights, *inputs), input_signature=specs)

    class Linear(tf.Module):
        __call__ = staticmethod(function)

    linear = Linear()
    linear.weights = made.weights
    return linear


def matrix(count: int | None = None, width: int = 30, name: str | None = None, dtype: str = "float32") -> Any:
    import tensorflow as tf

    return tf.TensorSpec((count, width), dtype, name=name)


@functools.cache
def linear() -> Any:
    """Return a tf.Module that takes one input and returns probabilities."""
    import tensorflow as tf

    return module(lambda weights, inputs: tf.nn.softmax(inputs @ weights), matrix())


def two_part_module() -> Any:
    """Return a tf.Module that pyfunc can't run: it takes two inputs by name."""
    import tensorflow as tf

    scored = tf.Module()
    scored.weights = tf.Variable(weights())

    @tf.function(input_signature=[matrix(None, 10, "means"), matrix(None, 20, "others")])
    def score(means: Any, others: Any) -> Any:
        return {"risk": means @ scored.weights[:10] + others @ scored.weights[10:], "size": means[:, 0]}

    scored.score = score
    return scored


def old_model(folder: Path) -> str:
    """Save a SavedModel of two inputs and four outputs, one of them text. Return the key of its signature."""
    import tensorflow as tf

    scored = tf.Module()
    scored.weights = tf.Variable(weights())

    @tf.function(input_signature=[matrix(None, 30, "measures"), tf.TensorSpec((None,), tf.float64, name="age")])
    def score(measures: Any, age: Any) -> Any:
        probabilities = tf.nn.softmax(measures @ scored.weights)
        best = tf.argmax(probabilities, 1)
        return {
            "probabilities": probabilities,
            "class_ids": best[:, None],
            "classes": tf.gather(tf.constant(["malign", "benign"]), best)[:, None],
            "months": 12 * age,
        }

    scored.score = score
    tf.saved_model.save(scored, str(folder), signatures={"predict": score})
    return "predict"


def columns_model(folder: Path) -> str:
    """Save a SavedModel of two columns and three outputs of unlike shapes. Return the key of its signature."""
    import tensorflow as tf

    scored = tf.Module()
    specs = [tf.TensorSpec((None,), tf.float64, name=name) for name in ("age", "size")]

    @tf.function(input_signature=specs)
    def score(age: Any, size: Any) -> Any:
        return {"months": 12 * age, "ratio": (size / (1 + age * age))[:, None], "both": tf.stack([age, size], 1)}

    scored.score = score
    tf.saved_model.save(scored, str(folder), signatures={"predict": score})
    return "predict"


def old_inputs() -> dict[str, np.ndarray]:
    """Return inputs for `old_model`."""
    return {"measures": rows(), "age": np.abs(rows()[:, 0]).astype(np.float64)}


# -- saving ---------------------------------------------------------------------------------------


def save(path: Path, flavor: str, model: Any, example: Any, **options: Any) -> Path:
    """Save a model with a signature and an input example. `options` go to MLflow's save_model. Return the path."""
    import mlflow
    from mlflow.models import infer_signature

    if "signature" not in options:
        options["signature"] = infer_signature(example)
    path.mkdir()  # the flavor keras writes the example before it creates the folder
    module = mlflow.keras if flavor == "keras" else mlflow.tensorflow
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.save_model(model, str(path), input_example=example, pip_requirements=[], **options)
    return path


def save_old_saved_model(path: Path, export: Callable[[Path], str], **options: Any) -> Path:
    """Write the layout of MLflow 1. `export` saves a SavedModel to a folder and returns the signature's key."""
    import mlflow.pyfunc
    from mlflow.models import Model

    key = export(path / "tfmodel")
    meta = Model(**options)
    meta.add_flavor("tensorflow", saved_model_dir="tfmodel", meta_graph_tags=["serve"], signature_def_key=key)
    mlflow.pyfunc.add_to_model(meta, loader_module="mlflow.tensorflow")
    meta.save(str(path / "MLmodel"))
    return path


# -- running --------------------------------------------------------------------------------------


def deploy_tf(path: Path, flavor: str | None = None, **options: Any) -> Deployed:
    """Convert a saved model, and load the result with the engine's own backend."""
    model = open_model(str(path))
    deployable = convert(model, flavor=choose_flavor(model, flavor), limits=ServerLimits(), **options)
    mapping = Mapping.from_json(deployable.mapping.to_json())
    return Deployed(model, deployable, mapping, engine_runner(deployable))


def engine_runner(deployable: Deployable) -> Run:
    loaded = _backend(deployable.backend).load(
        deployable.blob,
        "CPU",
        inputs=deployable.tf_inputs,
        outputs=deployable.tf_outputs,
        settings=BackendSettings(),
    )

    def run(tensors: list[Tensor]) -> list[Tensor]:
        found = loaded.run([tensor.array() for tensor in tensors])
        return [Tensor.from_array(np.asarray(found[index])) for index in deployable.mapping.fetch]

    return run


def _backend(name: str) -> Backend:
    from redisai_engine.backends.onnx import OnnxBackend
    from redisai_engine.backends.tensorflow import TensorFlowBackend
    from redisai_engine.backends.tflite import TFLiteBackend

    return {"ONNX": OnnxBackend, "TF": TensorFlowBackend, "TFLITE": TFLiteBackend}[name]()


def frame(array: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(array)
