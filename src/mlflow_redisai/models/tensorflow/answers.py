"""
The answers of a TensorFlow or Keras model itself: from mlflow.pyfunc, or from the loaded model called directly.

Neither goes through the trace that conversions are made from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import Reference
from mlflow_redisai.models.tensorflow.call import Traced, quiet, to_text
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.prediction import Run, predict
from redisai_engine.protocol.tensor import Tensor


def pyfunc_reference(model: MlflowModel) -> Reference:
    """Return pyfunc as the reference, with TensorFlow's tensors in its answers converted to numpy arrays."""

    def answer(inputs: Any) -> Any:
        with quiet():
            return _on_host(model.pyfunc().predict(inputs))

    return Reference("mlflow.pyfunc", answer)


def model_reference(traced: Traced, mapping: Mapping) -> Reference:
    """Return the loaded model as the reference. It is called with the inputs, and for the outputs, in `mapping`."""
    run = fetched(traced.ask_model, mapping)

    def answer(inputs: Any) -> Any:
        with quiet():
            return predict(run, mapping, inputs)[0]

    by_keras = traced.convention.predict is not None
    return Reference("Keras' own predict" if by_keras else "the model itself, called by TensorFlow", answer)


def fetched(run: Run, mapping: Mapping) -> Run:
    """Return a function that runs `run`, which gives all outputs, and returns those that `mapping` fetches."""

    def fetch(tensors: list[Tensor]) -> list[Tensor]:
        found = run(tensors)
        return [found[index] for index in mapping.fetch]

    return fetch


def _on_host(answer: Any) -> Any:
    """Return an answer with tensors converted to numpy arrays, bytes to text, and tuples to lists."""
    if isinstance(answer, dict):
        return {name: _on_host(value) for name, value in answer.items()}
    if isinstance(answer, tuple) or (isinstance(answer, list) and answer and hasattr(answer[0], "dtype")):
        return [_on_host(value) for value in answer]
    if isinstance(answer, list):
        return [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in answer]
    if hasattr(answer, "numpy"):
        answer = answer.numpy()
    return to_text(answer) if isinstance(answer, np.ndarray) else answer
