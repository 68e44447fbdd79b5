"""
A perceptron in the other backends' own formats: the middle or the small model, with the same weights.

    python -m bench.natives TORCH middle middle.pt

makes one in a separate process: two frameworks in one process interfere with each other, and the process that generates
the load should have none.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench import models

Array = np.ndarray[Any, Any]
Layers = list[tuple[Array, Array]]  # weights and biases, one pair per layer, with ReLU in between


def make(backend: str, folder: Path, size: str = "middle") -> bytes:
    """Return the model's bytes. Raise CalledProcessError if the framework isn't installed."""
    path = folder / f"{size}.{backend.lower()}"
    command = [sys.executable, "-m", "bench.natives", backend, size, str(path)]
    subprocess.run(command, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, check=True, capture_output=True)
    return path.read_bytes()


def _layers(size: str) -> Layers:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(models.PERCEPTRONS[size]().onnx).graph
    arrays = [numpy_helper.to_array(initializer) for initializer in graph.initializer]
    return list(pairwise(arrays))[::2]


def _torch(layers: Layers) -> bytes:
    import torch

    steps: list[Any] = []
    for weights, biases in layers:
        linear = torch.nn.Linear(*weights.shape)
        linear.weight.data = torch.tensor(weights.T)
        linear.bias.data = torch.tensor(biases)
        steps += [linear, torch.nn.ReLU()]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # new versions deprecate it, RedisAI runs no other
        torch.jit.save(torch.jit.script(torch.nn.Sequential(*steps[:-1]).eval()), buffer)
    return buffer.getvalue()


def _perceptron(tf: Any, x: Any, layers: Layers) -> Any:
    for number, (weights, biases) in enumerate(layers):
        x = tf.matmul(x, tf.constant(weights)) + tf.constant(biases)
        x = x if number == len(layers) - 1 else tf.nn.relu(x)
    return tf.identity(x, "y")


def _tensorflow(layers: Layers) -> bytes:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        _perceptron(tf, tf.compat.v1.placeholder(tf.float32, (None, len(layers[0][0])), "x"), layers)
    return bytes(graph.as_graph_def().SerializeToString())


def _tflite(layers: Layers) -> bytes:
    import tensorflow as tf

    spec = tf.TensorSpec((None, len(layers[0][0])), tf.float32, "x")
    function = tf.function(lambda x: _perceptron(tf, x, layers), input_signature=[spec]).get_concrete_function()
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module()).convert())


MAKERS = {"TORCH": _torch, "TF": _tensorflow, "TFLITE": _tflite}

if __name__ == "__main__":
    Path(sys.argv[3]).write_bytes(MAKERS[sys.argv[1]](_layers(sys.argv[2])))
