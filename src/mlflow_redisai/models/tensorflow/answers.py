"""
What a TensorFlow or Keras model itself answers: through mlflow.pyfunc, or asked by its library as it was loaded.

Neither goes through the trace that conversions are made of.
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
    """Return the answers of mlflow.pyfunc, TensorFlow's tensors in them made numpy's arrays."""

    def answer(inputs: Any) -> Any:
        with quiet():
            return _on_host(model.pyfunc().predict(inputs))

    return Reference("mlflow.pyfunc", answer)


def model_reference(traced: Traced, mapping: Mapping) -> Reference:
    """Return the answers of the loaded model, asked with the tensors and for the outputs that `mapping` names."""
    run = fetched(traced.ask_model, mapping)

    def answer(inputs: Any) -> Any:
        with quiet():
            return predict(run, mapping, inputs)[0]

    by_keras = traced.convention.predict is not None
    return Reference("Keras' own predict" if by_keras else "the model itself, called by TensorFlow", answer)


def fetched(run: Run, mapping: Mapping) -> Run:
    """Return a function that gives only the outputs that `mapping` fetches, of one that gives all."""

    def fetch(tensors: list[Tensor]) -> list[Tensor]:
        found = run(tensors)
        return [found[index] for index in mapping.fetch]

    return fetch


def _on_host(answer: Any) -> Any:
    """Make numpy arrays of TensorFlow's tensors, text of their bytes, and a list of a tuple."""
    if isinstance(answer, dict):
        return {name: _on_host(value) for name, value in answer.items()}
    if isinstance(answer, tuple) or (isinstance(answer, list) and answer and hasattr(answer[0], "dtype")):
        return [_on_host(value) for value in answer]
    if isinstance(answer, list):
        return [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in answer]
    if hasattr(answer, "numpy"):
        answer = answer.numpy()
    return to_text(answer) if isinstance(answer, np.ndarray) else answer
