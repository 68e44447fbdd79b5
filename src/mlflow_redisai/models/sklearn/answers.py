"""
The answers of a scikit-learn estimator itself for the outputs of its graph, by skl2onnx's names for outputs.

The table of methods is the result of an experiment: every estimator that skl2onnx supports was converted, and each
output was matched with the method that gives the same numbers.

Invariant: an output that no method of the estimator gives has no reference. The graph's own answer never stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlflow_redisai.models.loading import MlflowModel
from mlflow_redisai.models.reference import NoReference, Reference, pyfunc_reference
from mlflow_redisai.models.sklearn.estimators import last_of
from mlflow_redisai.models.trials.methods import Method, reference_of
from redisai_engine.codec.mapping import Output
from redisai_engine.codec.values import Array

# The methods for each output. The first that an estimator has counts: k-means has scores, but no decision function.
_METHODS: dict[str, tuple[str, ...]] = {
    "label": ("predict",),
    "probabilities": ("predict_proba",),
    "log_probabilities": ("predict_log_proba",),
    "scores": ("decision_function", "transform"),
    "score_samples": ("score_samples",),
    "distance": ("kneighbors",),
    "index": ("kneighbors",),
}

# kneighbors returns a pair of distances and indices.
_POSITIONS = {"distance": 0, "index": 1}


def default_reference(model: MlflowModel, estimator: Any, function: str) -> Reference:
    """Return pyfunc as the reference, or the estimator's own method if it is one that pyfunc doesn't call."""
    if function not in ("transform", "decision_function"):
        return pyfunc_reference(model)
    return Reference(f"{type(estimator).__name__}'s own {function}", _called(model, getattr(estimator, function)))


def chosen_reference(
    model: MlflowModel, estimator: Any, function: str, default: Sequence[str], outputs: Sequence[Output]
) -> Reference | NoReference:
    """
    Return the estimator's own answers for `outputs`, to input as `mlflow.pyfunc` would pass it.

    `default` names the outputs that make up pyfunc's answer, which the method `function` gives.
    """

    def method_of(name: str) -> Method | None:
        found = _method(model, estimator, name)
        if found is None and [name] == list(default) and hasattr(estimator, function):
            return Method(function, _called(model, getattr(estimator, function)))
        return found

    return reference_of(type(estimator).__name__, outputs, method_of)


def _called(model: MlflowModel, method: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda inputs: _dense(method(model.enforced(inputs)))


def _dense(answer: Any) -> Any:
    """Return a sparse matrix as an array: a tensor has all numbers, also those that are zero."""
    return answer.toarray() if hasattr(answer, "toarray") else answer


def _method(model: MlflowModel, estimator: Any, output: str) -> Method | None:
    stem, number = _without_target(output)
    if stem == "probabilities" and _gives_scores(estimator):
        scores = _called(model, estimator.decision_function)
        return Method("decision_function", lambda inputs: _two_columns(scores(inputs)))
    name = next((name for name in _METHODS.get(stem, ()) if hasattr(estimator, name)), None)
    if name is None:
        return None
    call = _called(model, getattr(estimator, name))
    position = _POSITIONS.get(stem, number)
    return Method(name, call if position is None else lambda inputs: call(inputs)[position])


def _without_target(output: str) -> tuple[str, int | None]:
    """Split off the number of the target from the output of one of several targets, such as probabilities_1."""
    stem, _, number = output.rpartition("_")
    return (stem, int(number)) if number.isdecimal() else (output, None)


def _gives_scores(estimator: Any) -> bool:
    """Return whether the output `probabilities` has scores: skl2onnx names them so for an SVC without probabilities."""
    from sklearn.svm import SVC, NuSVC

    return isinstance(last_of(estimator), (SVC, NuSVC)) and not hasattr(estimator, "predict_proba")


def _two_columns(scores: Array) -> Array:
    """Return scores as skl2onnx lays them out: for two classes, a single score is followed by its negative."""
    return np.column_stack([scores, -scores]) if scores.ndim == 1 else scores
