"""Keras: layers with random weights, each in a model of its own, saved with both of MLflow's flavors for Keras."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from census import tensors
from census.rows import CannotTrain, Family, Row, Trained

_FLAT, _IMAGE, _STEPS, _WORDS = (8,), (8, 8, 3), (6, 8), (6,)

_ACTIVATIONS = (
    *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh"),
    *("leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu"),
    *("soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparsemax", "squareplus", "tanh"),
    *("tanh_shrink", "threshold"),
)

#: For each layer, the shape of a row, its type, and the layer's arguments.
_LAYERS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "ActivityRegularization": (_FLAT, {}),
    "AveragePooling2D": (_IMAGE, {}),
    "BatchNormalization": (_FLAT, {}),
    "Bidirectional": (_STEPS, {}),
    "CategoryEncoding": (_WORDS, {"num_tokens": 10, "output_mode": "multi_hot"}),
    "Conv1D": (_STEPS, {"filters": 4, "kernel_size": 3}),
    "Conv1D causal": (_STEPS, {"filters": 4, "kernel_size": 3, "padding": "causal"}),
    "Conv2D": (_IMAGE, {"filters": 4, "kernel_size": 3, "padding": "same", "strides": 2}),
    "Conv2DTranspose": (_IMAGE, {"filters": 4, "kernel_size": 3, "strides": 2}),
    "Cropping2D": (_IMAGE, {}),
    "Dense": (_FLAT, {"units": 3}),
    "DepthwiseConv2D": (_IMAGE, {"kernel_size": 3}),
    "Discretization": (_FLAT, {"bin_boundaries": [-1.0, 0.0, 0.5]}),
    "Dropout": (_FLAT, {"rate": 0.5}),
    "Embedding": (_WORDS, {"input_dim": 10, "output_dim": 4}),
    "Embedding masked": (_WORDS, {"input_dim": 10, "output_dim": 4, "mask_zero": True}),
    "Flatten": (_IMAGE, {}),
    "GRU": (_STEPS, {"units": 5}),
    "GaussianNoise": (_FLAT, {"stddev": 0.5}),
    "GlobalAveragePooling2D": (_IMAGE, {}),
    "GlobalMaxPooling1D": (_STEPS, {}),
    "GroupNormalization": (_IMAGE, {"groups": 3}),
    "Hashing": (_WORDS, {"num_bins": 7}),
    "LSTM": (_STEPS, {"units": 5}),
    "LSTM sequences": (_STEPS, {"units": 5, "return_sequences": True, "go_backwards": True}),
    "LayerNormalization": (_FLAT, {}),
    "LeakyReLU": (_FLAT, {}),
    "Masking": (_STEPS, {}),
    "MaxPooling2D": (_IMAGE, {}),
    "Normalization": (_FLAT, {"mean": 0.5, "variance": 2.0}),
    "PReLU": (_FLAT, {}),
    "Permute": (_STEPS, {"dims": (2, 1)}),
    "RMSNormalization": (_FLAT, {}),
    "RandomFlip": (_IMAGE, {}),
    "RepeatVector": (_FLAT, {"n": 3}),
    "Rescaling": (_FLAT, {"scale": 0.1, "offset": 1.0}),
    "Reshape": (_FLAT, {"target_shape": (2, 4)}),
    "Resizing": (_IMAGE, {"height": 5, "width": 5}),
    "Resizing nearest": (_IMAGE, {"height": 5, "width": 5, "interpolation": "nearest"}),
    "SeparableConv2D": (_IMAGE, {"filters": 4, "kernel_size": 3}),
    "SimpleRNN": (_STEPS, {"units": 5}),
    "SpectralNormalization": (_FLAT, {}),
    "TimeDistributed": (_STEPS, {}),
    "UnitNormalization": (_FLAT, {}),
    "UpSampling2D": (_IMAGE, {"interpolation": "bilinear"}),
    "ZeroPadding2D": (_IMAGE, {}),
}
_AROUND = {"Bidirectional": ("LSTM", 5), "TimeDistributed": ("Dense", 3), "SpectralNormalization": ("Dense", 3)}


def rows() -> Iterator[Row]:
    """Yield a row for every layer and every activation in each flavor."""
    for name in (*_LAYERS, *(f"activation {each}" for each in _ACTIVATIONS)):
        for flavor in ("keras", "tensorflow"):
            yield Row("keras", name, within=flavor, data="random")


def train(row: Row, seed: int) -> Trained:
    """Return the layer with random weights."""
    try:
        model, shape, dtype, random = _model(row.subject, seed)
    except Exception as error:
        raise CannotTrain(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    rows = tensors.example(shape, dtype, random)

    def save(path: Path, method: str) -> None:
        from support.tf_models import save as save_keras

        save_keras(path, row.within, model, rows)

    return Trained(row.within, save, tensors.questions(shape, dtype, random))


@lru_cache(maxsize=1)
def _model(name: str, seed: int) -> tuple[Any, tuple[int, ...], str, np.random.Generator]:
    import keras

    keras.utils.set_random_seed(seed)
    shape = _FLAT if name.startswith("activation") else _LAYERS[name][0]
    dtype = "int64" if shape == _WORDS else "float32"
    model = keras.Sequential([keras.Input(shape, dtype=dtype), _layer(name)])
    return model, shape, dtype, np.random.default_rng(seed)


def _layer(name: str) -> Any:
    from keras import layers

    kind, _, variant = name.partition(" ")
    if kind == "activation":
        return layers.Activation(variant)
    if kind in _AROUND:
        inner, units = _AROUND[kind]
        return getattr(layers, kind)(getattr(layers, inner)(units))
    return getattr(layers, kind)(**_LAYERS[name][1])


FAMILY = Family("keras", rows, train)
