"""
Ensembles of any estimators: voting and bagging, added up in scikit-learn's order and in float64.

Invariant: a vote is what the estimator's own label says, not the largest of the numbers beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, labels, nodes_of, put

# The version of ai.onnx.ml with the LabelEncoder from any type to any.
_ML_OPSET = 2


def convert_voting(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "voting")
    estimator = operator.raw_operator
    weights = estimator._weights_not_none
    weights = [1.0] * len(estimator.estimators_) if weights is None else [float(each) for each in weights]
    parts = []
    for inner, weight in zip(estimator.estimators_, weights, strict=True):
        label, probabilities = asked(scope, inner, operator.inputs)
        own = probabilities if estimator.voting == "soft" else _vote(nodes, label, len(estimator.classes_))
        parts.append(own if weight == 1 else nodes.add("Mul", own, nodes.constant(np.float64(weight))))
    _answer(nodes, operator, parts, float(np.sum(weights)))
    put(nodes, container)


def convert_bagging(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "bagging")
    estimator = operator.raw_operator
    count = len(estimator.classes_)
    parts = []
    for inner, columns in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
        if len(inner.classes_) != count:
            raise NotConvertible("bagging can't be converted to ONNX if an estimator hasn't seen all classes")
        label, probabilities = asked(scope, inner, [_chosen(scope, container, nodes, operator, columns)])
        parts.append(probabilities if hasattr(inner, "predict_proba") else _vote(nodes, label, count))
    _answer(nodes, operator, parts, float(len(parts)))
    put(nodes, container)


def convert_adaboost(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "adaboost")
    estimator = operator.raw_operator
    count = len(estimator.classes_)
    total = ""
    for inner, weight in zip(estimator.estimators_, estimator.estimator_weights_, strict=False):
        label, _ = asked(scope, inner, operator.inputs)
        chosen = nodes.add("Greater", _vote(nodes, _numbered(nodes, label, inner.classes_), count), _number(nodes, 0))
        own = nodes.add("Where", chosen, _number(nodes, weight), _number(nodes, -1 / (count - 1) * weight))
        total = nodes.add("Add", total, own) if total else own
    scores = nodes.add("Div", total, _number(nodes, estimator.estimator_weights_.sum()))
    if count == 2:
        signed = nodes.add("Mul", scores, nodes.constant(np.array([-1.0, 1.0])))
        scores = nodes.add("ReduceSum", signed, nodes.constant(np.array([1])), keepdims=1)
        # scikit-learn takes the second class for a positive score only.
        position = nodes.cast(nodes.add("Greater", scores, _number(nodes, 0)), np.int64)
        position = nodes.add("Reshape", position, nodes.constant(np.array([-1])))
        scores = nodes.add("Concat", nodes.add("Neg", scores), scores, axis=1)
    else:
        position = nodes.add("ArgMax", scores, axis=1, keepdims=0)
    label = labels(nodes, estimator.classes_, position)
    give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
    if not container.get_options(estimator, {"raw_scores": False}).get("raw_scores"):
        divisor = 2 if count == 2 else count - 1
        scores = nodes.add("Softmax", nodes.add("Div", scores, _number(nodes, divisor)), axis=1)
    give(nodes, scores, operator.outputs[1].full_name, operator.outputs[1].type)
    put(nodes, container, _ML_OPSET)


def convert_threshold(scope: Any, operator: Any, container: Any) -> None:
    """Write a classifier whose label depends on a threshold that was found for its probabilities."""
    nodes = nodes_of(scope, "threshold")
    estimator = operator.raw_operator
    if _scored_by(estimator) != "predict_proba":
        raise NotConvertible(
            "a threshold for decision_function can't be converted to ONNX; use response_method='predict_proba'"
        )
    _, probabilities = asked(scope, estimator.estimator_, operator.inputs)
    wide = nodes.cast(probabilities, np.float64)
    wanted = estimator._curve_scorer._get_pos_label()
    positive = 1 if wanted is None else int(np.flatnonzero(estimator.classes_ == wanted)[0])
    score = nodes.add("Gather", wide, nodes.constant(np.int64(positive)), axis=1)
    below = nodes.add("Less", score, _number(nodes, estimator.best_threshold_))
    place = nodes.add("Where", below, nodes.constant(np.int64(1 - positive)), nodes.constant(np.int64(positive)))
    label = labels(nodes, estimator.classes_, place)
    give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
    give(nodes, wide, operator.outputs[1].full_name, operator.outputs[1].type)
    put(nodes, container)


def _scored_by(estimator: Any) -> str:
    """Return the method whose numbers are compared with a threshold, as scikit-learn chooses it."""
    if estimator.response_method != "auto":
        return str(estimator.response_method)
    return "predict_proba" if hasattr(estimator.estimator_, "predict_proba") else "decision_function"


def _numbered(nodes: Nodes, label: str, classes: Any) -> str:
    """Return the name of the labels' positions among the classes, for an estimator that was trained on the labels."""
    plain = np.asarray(classes.tolist())
    kind = {"keys_strings": plain.tolist()} if plain.dtype.kind == "U" else {"keys_int64s": plain.astype(int).tolist()}
    positions = list(range(len(plain)))
    return nodes.add("LabelEncoder", label, domain="ai.onnx.ml", values_int64s=positions, default_int64=-1, **kind)


def _number(nodes: Nodes, value: float) -> str:
    return nodes.constant(np.float64(value))


def _answer(nodes: Nodes, operator: Any, parts: Sequence[str], divisor: float) -> None:
    total = parts[0]
    for part in parts[1:]:
        total = nodes.add("Add", total, part)
    averages = nodes.add("Div", total, nodes.constant(np.float64(divisor)))
    label = labels(nodes, operator.raw_operator.classes_, nodes.add("ArgMax", averages, axis=1, keepdims=0))
    give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
    give(nodes, averages, operator.outputs[1].full_name, operator.outputs[1].type)


def _chosen(scope: Any, container: Any, nodes: Nodes, operator: Any, columns: Any) -> Any:
    """Return the columns that an estimator of a bag has seen, as a variable."""
    whole = operator.inputs[0]
    if list(columns) == list(range(operator.raw_operator.n_features_in_)):
        return whole
    chosen = scope.declare_local_variable("chosen", type(whole.type)([None, len(columns)]))
    nodes.add("Gather", whole.full_name, nodes.constant(np.asarray(columns, np.int64)), axis=1, name=chosen.full_name)
    return chosen


def asked(scope: Any, inner: Any, inputs: list[Any]) -> tuple[str, str]:
    """
    Declare an estimator of the ensemble. Return the names of its labels and of its probabilities in float64.

    A regressor has numbers instead of labels, and nothing else.
    """
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType
    from sklearn.base import is_regressor

    operator = scope.declare_local_operator(sklearn_operator_name_map[type(inner)], inner)
    operator.inputs = inputs
    if is_regressor(inner):
        answer = scope.declare_local_variable("answer", DoubleTensorType())
        operator.outputs.append(answer)
        return answer.full_name, ""
    label = scope.declare_local_variable("label", Int64TensorType())
    probabilities = scope.declare_local_variable("probabilities", DoubleTensorType())
    operator.outputs.extend([label, probabilities])
    return label.full_name, probabilities.full_name


def _vote(nodes: Nodes, label: str, count: int) -> str:
    """Return the name of a matrix with a one for each row's label. Ensembles train their estimators on numbers."""
    column = nodes.add("Reshape", label, nodes.constant(np.array([-1, 1])))
    return nodes.cast(nodes.add("Equal", column, nodes.constant(np.arange(count))), np.float64)
