"""
Classifiers by log likelihood, naive Bayes and quadratic discriminants, in float64.

The logarithm of a probability is a difference of likelihoods. Computed from the probability, it would be infinite as
soon as that is too small for its type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, labels, nodes_of, numbers, put, row_max
from redisai_engine.codec.values import Array

#: The option with which probabilities are logarithms.
LOGARITHMS = "log_probabilities"


def is_by_likelihood(estimator: Any) -> bool:
    """Return whether an estimator's probabilities can be converted as logarithms."""
    return type(estimator).__name__ in _LIKELIHOODS


def convert(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "likelihood")
    estimator = operator.raw_operator
    likelihoods = _LIKELIHOODS[type(estimator).__name__](nodes, estimator, numbers(nodes, operator))
    label = labels(nodes, estimator.classes_, nodes.add("ArgMax", likelihoods, axis=1, keepdims=0))
    give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
    answer = _normalized(nodes, likelihoods)
    if not container.get_options(estimator, {LOGARITHMS: False}).get(LOGARITHMS):
        answer = nodes.add("Exp", answer)
    give(nodes, answer, operator.outputs[1].full_name, operator.outputs[1].type)
    put(nodes, container)


def _normalized(nodes: Nodes, likelihoods: str) -> str:
    """Return the name of the likelihoods less the logarithm of the sum of their exponentials."""
    largest = row_max(nodes, likelihoods)
    finite = nodes.add("Less", nodes.add("Abs", largest), nodes.constant(np.float64(np.inf)))
    shift = nodes.add("Where", finite, largest, nodes.constant(np.float64(0)))
    exponentials = nodes.add("Exp", nodes.add("Sub", likelihoods, shift))
    total = nodes.add("Add", nodes.add("Log", _sum(nodes, exponentials)), shift)
    return nodes.add("Sub", likelihoods, total)


def _sum(nodes: Nodes, name: str) -> str:
    return nodes.add("ReduceSum", name, nodes.constant(np.array([1])), keepdims=1)


def _products(nodes: Nodes, rows: str, weights: Any, shifts: Any) -> str:
    product = nodes.add("MatMul", rows, nodes.constant(np.asarray(weights, np.float64).T.copy()))
    return nodes.add("Add", product, nodes.constant(np.asarray(shifts, np.float64)))


def _multinomial(nodes: Nodes, estimator: Any, rows: str) -> str:
    return _products(nodes, rows, estimator.feature_log_prob_, estimator.class_log_prior_)


def _complement(nodes: Nodes, estimator: Any, rows: str) -> str:
    prior = estimator.class_log_prior_ if len(estimator.classes_) == 1 else np.zeros(len(estimator.classes_))
    return _products(nodes, rows, estimator.feature_log_prob_, prior)


def _bernoulli(nodes: Nodes, estimator: Any, rows: str) -> str:
    if estimator.binarize is not None:
        rows = nodes.cast(nodes.add("Greater", rows, nodes.constant(np.float64(estimator.binarize))), np.float64)
    with np.errstate(divide="ignore"):
        absent = np.log(1 - np.exp(estimator.feature_log_prob_))
    present = estimator.feature_log_prob_ - absent
    return _products(nodes, rows, present, estimator.class_log_prior_ + absent.sum(axis=1))


def _gaussian(nodes: Nodes, estimator: Any, rows: str) -> str:
    shifts = np.log(estimator.class_prior_) - 0.5 * np.log(2.0 * np.pi * estimator.var_).sum(axis=1)
    parts = []
    for mean, variance in zip(estimator.theta_, estimator.var_, strict=True):
        gap = nodes.add("Sub", rows, nodes.constant(mean))
        parts.append(_sum(nodes, nodes.add("Div", nodes.add("Mul", gap, gap), nodes.constant(variance))))
    return _shifted(nodes, parts, shifts)


def _quadratic(nodes: Nodes, estimator: Any, rows: str) -> str:
    shifts = np.log(estimator.priors_) - 0.5 * np.array([np.log(each).sum() for each in estimator.scalings_])
    parts = []
    for mean, rotation, scaling in zip(estimator.means_, estimator.rotations_, estimator.scalings_, strict=True):
        gap = nodes.add("Sub", rows, nodes.constant(np.asarray(mean, np.float64)))
        turned = nodes.add("MatMul", gap, nodes.constant(np.asarray(rotation * scaling**-0.5, np.float64)))
        parts.append(_sum(nodes, nodes.add("Mul", turned, turned)))
    return _shifted(nodes, parts, shifts)


def _shifted(nodes: Nodes, distances: Sequence[str], shifts: Array) -> str:
    """Return the name of the shifts less half of the squared distances, a column for each class."""
    joined = nodes.add("Concat", *distances, axis=1)
    return nodes.add("Sub", nodes.constant(shifts), nodes.add("Mul", joined, nodes.constant(np.float64(0.5))))


_LIKELIHOODS: dict[str, Callable[[Nodes, Any, str], str]] = {
    "BernoulliNB": _bernoulli,
    "ComplementNB": _complement,
    "GaussianNB": _gaussian,
    "MultinomialNB": _multinomial,
    "QuadraticDiscriminantAnalysis": _quadratic,
}
