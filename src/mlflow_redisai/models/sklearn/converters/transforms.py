"""
The transform method of estimators that also predict: clusters, discriminants, least squares, votes and stacks.

skl2onnx converts only what they predict. So `Transforming` stands in for such an estimator where its transform is
wanted, and has a converter of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, labels, nodes_of, numbers, put
from mlflow_redisai.models.sklearn.converters.votes import asked

NAME = "OwnTransforming"
_CLUSTERS = ("KMeans", "MiniBatchKMeans")
_VOTES = ("VotingClassifier", "VotingRegressor")
_STACKS = ("StackingClassifier", "StackingRegressor")
_KINDS = (*_CLUSTERS, "LinearDiscriminantAnalysis", "PLSRegression", *_VOTES, *_STACKS)


class Transforming:
    """An estimator of which only transform is asked. What it holds is named as in any estimator that delegates."""

    def __init__(self, estimator: Any) -> None:
        self.estimator_ = estimator
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(estimator, name):
                setattr(self, name, getattr(estimator, name))

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002
        """Return nothing: the options are those of the estimator inside. Anything with this method is an estimator."""
        del deep
        return {}

    def __sklearn_tags__(self) -> Any:
        """Return the tags of a transformer, which is how scikit-learn and skl2onnx tell it from a classifier."""
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer().__sklearn_tags__()

    def transform(self, rows: Any) -> Any:
        return self.estimator_.transform(rows)

    def fit(self, rows: Any, target: Any = None) -> Transforming:
        """Do nothing: scikit-learn requires that steps of a pipeline can be fitted."""
        del rows, target
        return self


def transforming(estimator: Any) -> Any:
    """Return the estimator, or its stand-in if skl2onnx converts only what it predicts."""
    return Transforming(estimator) if type(estimator).__name__ in _KINDS else estimator


def shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType

    operator.outputs[0].type = DoubleTensorType([operator.inputs[0].get_first_dimension(), None])


def convert(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "transforming")
    estimator = operator.raw_operator.estimator_
    kind = type(estimator).__name__
    if kind in _CLUSTERS:
        answer = asked(scope, estimator, operator.inputs)[1]
    elif kind in _VOTES:
        answer = _votes(scope, nodes, operator, estimator)
    elif kind in _STACKS:
        answer = _stack(scope, nodes, operator, estimator)
    elif kind == "PLSRegression":
        answer = _least_squares(nodes, operator, estimator)
    else:
        answer = _discriminants(nodes, operator, estimator)
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


def _discriminants(nodes: Nodes, operator: Any, estimator: Any) -> str:
    rows = numbers(nodes, operator)
    if estimator.solver == "svd":
        rows = nodes.add("Sub", rows, nodes.constant(np.asarray(estimator.xbar_, np.float64)))
    directions = np.asarray(estimator.scalings_, np.float64)[:, : estimator._max_components]
    return nodes.add("MatMul", rows, nodes.constant(directions.copy()))


def _least_squares(nodes: Nodes, operator: Any, estimator: Any) -> str:
    moved = nodes.add("Sub", numbers(nodes, operator), nodes.constant(np.asarray(estimator._x_mean, np.float64)))
    scaled = nodes.add("Div", moved, nodes.constant(np.asarray(estimator._x_std, np.float64)))
    return nodes.add("MatMul", scaled, nodes.constant(np.asarray(estimator.x_rotations_, np.float64)))


def _votes(scope: Any, nodes: Nodes, operator: Any, estimator: Any) -> str:
    soft = getattr(estimator, "voting", "hard") == "soft"
    if soft and not estimator.flatten_transform:
        raise NotConvertible("flatten_transform=False can't be converted to ONNX; use flatten_transform=True")
    parts = []
    for inner in estimator.estimators_:
        label, probabilities = asked(scope, inner, operator.inputs)
        parts.append(nodes.cast(probabilities, np.float64) if soft else _column(nodes, label))
    return nodes.add("Concat", *parts, axis=1)


def stack_converter(original: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """Return the converter of what a stack predicts. `original` is skl2onnx's, which can't stack labels."""

    def convert_stack(scope: Any, operator: Any, container: Any) -> None:
        estimator = operator.raw_operator
        if "predict" not in estimator.stack_method_:
            original(scope, operator, container)
            return
        nodes = nodes_of(scope, "stack")
        answers = _predicted_from(scope, nodes, estimator, _stack(scope, nodes, operator, estimator))
        for name, output in zip(answers, operator.outputs, strict=True):
            give(nodes, name, output.full_name, output.type)
        put(nodes, container)

    return convert_stack


def _predicted_from(scope: Any, nodes: Nodes, estimator: Any, stacked: str) -> tuple[str, str]:
    from skl2onnx.common.data_types import DoubleTensorType

    final = estimator.final_estimator_
    features = scope.declare_local_variable("stacked", DoubleTensorType([None, final.n_features_in_]))
    nodes.add("Identity", stacked, name=features.full_name)
    # The last estimator is trained on the positions of the classes.
    place, probabilities = asked(scope, final, [features])
    return labels(nodes, estimator.classes_, place), probabilities


def _stack(scope: Any, nodes: Nodes, operator: Any, estimator: Any) -> str:
    parts = []
    for inner, method in zip(estimator.estimators_, estimator.stack_method_, strict=True):
        if method == "decision_function":
            raise NotConvertible(
                f"the decision_function of {type(inner).__name__} can't be converted to ONNX inside a stack; "
                "use an estimator with predict_proba"
            )
        label, probabilities = asked(scope, inner, operator.inputs)
        if method == "predict":
            parts.append(_column(nodes, label))
            continue
        wide = nodes.cast(probabilities, np.float64)
        # Of two classes, scikit-learn keeps the second.
        second = nodes.constant(np.array([1]))
        parts.append(nodes.add("Gather", wide, second, axis=1) if len(estimator.classes_) == 2 else wide)
    if estimator.passthrough:
        parts.append(numbers(nodes, operator))
    return nodes.add("Concat", *parts, axis=1)


def _column(nodes: Nodes, answer: str) -> str:
    return nodes.add("Reshape", nodes.cast(answer, np.float64), nodes.constant(np.array([-1, 1])))
