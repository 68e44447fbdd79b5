"""
Classifiers by Gaussian processes, in float64: one process for two classes, and one for each class or pair of more.

What the training rows say about each other is known, so a single product stands in for the system of equations that
scikit-learn solves for every request.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, labels, nodes_of, numbers, put
from mlflow_redisai.models.sklearn.converters.neighbours.distances import squared_distances
from redisai_engine.codec.values import Array

# The logistic function as a sum of five error functions, and that function as quotients of polynomials (Cephes).
_SLOPES = np.array([0.41, 0.4, 0.37, 0.44, 0.39])
_SHARES = np.array([-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654])
_NEAR_ABOVE = [9.60497373987051638749, 9.00260197203842689217e1, 2.23200534594684319226e3, 7.00332514112805075473e3]
_NEAR_ABOVE += [5.55923013010394962768e4]
_NEAR_BELOW = [1.0, 3.35617141647503099647e1, 5.21357949780152679795e2, 4.59432382970980127987e3]
_NEAR_BELOW += [2.26290000613890934246e4, 4.92673942608635921086e4]
_FAR_ABOVE = [2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687, 4.86371970985681366614e1]
_FAR_ABOVE += [1.96520832956077098242e2, 5.26445194995477358631e2, 9.34528527171957607540e2, 1.02755188689515710272e3]
_FAR_ABOVE += [5.57535335369399327526e2]
_FAR_BELOW = [1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2]
_FAR_BELOW += [9.75708501743205489753e2, 1.82390916687909736289e3, 2.24633760818710981792e3, 1.65666309194161350182e3]
_FAR_BELOW += [5.57535340817727675546e2]
# From here on, the error function is 1.
_END = 7.0


def convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "process")
    estimator = operator.raw_operator
    rows = numbers(nodes, operator)
    base = estimator.base_estimator_
    if hasattr(base, "X_train_"):
        mean, probability = _process(nodes, base, rows)
        place = nodes.cast(nodes.add("Greater", mean, _number(nodes, 0)), np.int64)
        place = nodes.add("Reshape", place, nodes.constant(np.array([-1])))
        probabilities = nodes.add("Concat", nodes.add("Sub", _number(nodes, 1), probability), probability, axis=1)
    elif type(base).__name__ == "OneVsRestClassifier":
        place, probabilities = _one_for_each(nodes, base, rows)
    else:
        # scikit-learn has no probabilities then, but the graph needs an output.
        place = _one_for_each_pair(nodes, base, rows, len(estimator.classes_))
        probabilities = nodes.add("Mul", nodes.cast(place, np.float64), _number(nodes, np.nan))
    label = labels(nodes, estimator.classes_, place)
    give(nodes, label, operator.outputs[0].full_name, operator.outputs[0].type)
    give(nodes, probabilities, operator.outputs[1].full_name, operator.outputs[1].type)
    put(nodes, container)


def _number(nodes: Nodes, value: float) -> str:
    return nodes.constant(np.float64(value))


def _sum(nodes: Nodes, name: str) -> str:
    return nodes.add("ReduceSum", name, nodes.constant(np.array([1])), keepdims=1)


def _one_for_each(nodes: Nodes, base: Any, rows: str) -> tuple[str, str]:
    shares = nodes.add("Concat", *(_process(nodes, _binary(one), rows)[1] for one in base.estimators_), axis=1)
    return nodes.add("ArgMax", shares, axis=1, keepdims=0), nodes.add("Div", shares, _sum(nodes, shares))


def _one_for_each_pair(nodes: Nodes, base: Any, rows: str, count: int) -> str:
    pairs = list(combinations(range(count), 2))
    found = [_process(nodes, _binary(one), rows) for one in base.estimators_]
    second = nodes.cast(
        nodes.add("Greater", nodes.add("Concat", *(mean for mean, _ in found), axis=1), _number(nodes, 0)), np.float64
    )
    confidences = nodes.add("Concat", *(probability for _, probability in found), axis=1)
    eye = np.eye(count)
    first_of, second_of = eye[[pair[0] for pair in pairs]], eye[[pair[1] for pair in pairs]]
    lost = nodes.add("Sub", _number(nodes, 1), second)
    won = nodes.add("MatMul", second, nodes.constant(second_of))
    votes = nodes.add("Add", won, nodes.add("MatMul", lost, nodes.constant(first_of)))
    sums = nodes.add("MatMul", confidences, nodes.constant(second_of - first_of))
    size = nodes.add("Mul", nodes.add("Add", nodes.add("Abs", sums), _number(nodes, 1)), _number(nodes, 3))
    return nodes.add("ArgMax", nodes.add("Add", votes, nodes.add("Div", sums, size)), axis=1, keepdims=0)


def _binary(one: Any) -> Any:
    if not hasattr(one, "X_train_"):
        raise NotConvertible("a Gaussian process of a class that no training row has can't be converted to ONNX")
    return one


# -- one process ----------------------------------------------------------------------------------


def _process(nodes: Nodes, base: Any, rows: str) -> tuple[str, str]:
    """Return the names of the mean, and of the probability of the second class, as columns."""
    likeness = _likeness(nodes, base.kernel_, rows, np.asarray(base.X_train_, np.float64))
    mean = nodes.add("MatMul", likeness, nodes.constant((base.y_train_ - base.pi_).astype(np.float64)[:, None]))
    solved = np.linalg.solve(base.L_, np.diag(base.W_sr_))
    explained = nodes.add("MatMul", likeness, nodes.constant(solved.T.copy()))
    explained = _sum(nodes, nodes.add("Mul", explained, explained))
    variance = nodes.add("Sub", _own_likeness(nodes, base.kernel_, rows), explained)
    return mean, _probability(nodes, mean, variance)


def _probability(nodes: Nodes, mean: str, variance: str) -> str:
    alpha = nodes.add("Div", _number(nodes, 1), nodes.add("Mul", variance, _number(nodes, 2)))
    root = nodes.add("Sqrt", nodes.add("Div", alpha, nodes.add("Add", alpha, nodes.constant(_SLOPES**2))))
    errors = _error_function(nodes, nodes.add("Mul", nodes.add("Mul", mean, nodes.constant(_SLOPES)), root))
    above = nodes.add("Sqrt", nodes.add("Div", _number(nodes, np.pi), alpha))
    below = nodes.add(
        "Mul", nodes.add("Sqrt", nodes.add("Mul", variance, _number(nodes, 2 * np.pi))), _number(nodes, 2)
    )
    integrals = nodes.add("Div", nodes.add("Mul", above, errors), below)
    total = _sum(nodes, nodes.add("Mul", integrals, nodes.constant(_SHARES)))
    return nodes.add("Add", total, _number(nodes, 0.5 * _SHARES.sum()))


def _error_function(nodes: Nodes, x: str) -> str:
    """Add the error function, which ONNX Runtime has for float32 only."""
    square = nodes.add("Mul", x, x)
    near = nodes.add("Mul", x, _quotient(nodes, square, _NEAR_ABOVE, _NEAR_BELOW))
    size = nodes.add("Min", nodes.add("Abs", x), _number(nodes, _END))
    rest = nodes.add("Exp", nodes.add("Neg", nodes.add("Mul", size, size)))
    far = nodes.add("Sub", _number(nodes, 1), nodes.add("Mul", rest, _quotient(nodes, size, _FAR_ABOVE, _FAR_BELOW)))
    signed = nodes.add("Mul", far, nodes.add("Sign", x))
    return nodes.add("Where", nodes.add("Less", square, _number(nodes, 1)), near, signed)


def _quotient(nodes: Nodes, x: str, above: Sequence[float], below: Sequence[float]) -> str:
    return nodes.add("Div", _polynomial(nodes, x, above), _polynomial(nodes, x, below))


def _polynomial(nodes: Nodes, x: str, coefficients: Sequence[float]) -> str:
    total = _number(nodes, coefficients[0])
    for each in coefficients[1:]:
        total = nodes.add("Add", nodes.add("Mul", total, x), _number(nodes, each))
    return total


# -- kernels --------------------------------------------------------------------------------------


def _likeness(nodes: Nodes, kernel: Any, rows: str, training: Array) -> str:
    """Return the name of the kernel of each row and each training row."""
    kind = type(kernel).__name__
    if kind in ("Sum", "Product"):
        parts = [_likeness(nodes, each, rows, training) for each in (kernel.k1, kernel.k2)]
        return nodes.add("Add" if kind == "Sum" else "Mul", *parts)
    if kind == "Exponentiation":
        return nodes.add("Pow", _likeness(nodes, kernel.kernel, rows, training), _number(nodes, kernel.exponent))
    if kind == "ConstantKernel":
        return _number(nodes, kernel.constant_value)
    if kind == "WhiteKernel":
        return _number(nodes, 0)
    if kind == "DotProduct":
        product = nodes.add("MatMul", rows, nodes.constant(training.T.copy()))
        return nodes.add("Add", product, _number(nodes, kernel.sigma_0**2))
    if kind in ("RBF", "Matern", "RationalQuadratic"):
        scale = np.broadcast_to(np.asarray(kernel.length_scale, np.float64), training.shape[1:])
        scaled = nodes.add("Div", rows, nodes.constant(scale.copy()))
        return _by_distance(nodes, kernel, squared_distances(nodes, scaled, training / scale))
    raise NotConvertible(f"a Gaussian process with the kernel {kind} can't be converted to ONNX; use RBF or Matern")


def _by_distance(nodes: Nodes, kernel: Any, squares: str) -> str:
    kind = type(kernel).__name__
    if kind == "RationalQuadratic":
        part = nodes.add("Add", nodes.add("Div", squares, _number(nodes, 2 * kernel.alpha)), _number(nodes, 1))
        return nodes.add("Pow", part, _number(nodes, -kernel.alpha))
    if kind == "RBF" or kernel.nu == np.inf:
        return nodes.add("Exp", nodes.add("Mul", squares, _number(nodes, -0.5)))
    if kernel.nu not in (0.5, 1.5, 2.5):
        raise NotConvertible(f"nu={kernel.nu} of Matern can't be converted to ONNX; use 0.5, 1.5, 2.5 or infinity")
    far = nodes.add("Mul", nodes.add("Sqrt", squares), _number(nodes, (2 * kernel.nu) ** 0.5))
    power = nodes.add("Exp", nodes.add("Neg", far))
    if kernel.nu == 0.5:
        return power
    factor = nodes.add("Add", far, _number(nodes, 1))
    if kernel.nu == 2.5:
        factor = nodes.add("Add", factor, nodes.add("Div", nodes.add("Mul", far, far), _number(nodes, 3)))
    return nodes.add("Mul", factor, power)


def _own_likeness(nodes: Nodes, kernel: Any, rows: str) -> str:
    """Return the name of the kernel of each row and itself, a column or one number for all."""
    kind = type(kernel).__name__
    if kind in ("Sum", "Product"):
        parts = [_own_likeness(nodes, each, rows) for each in (kernel.k1, kernel.k2)]
        return nodes.add("Add" if kind == "Sum" else "Mul", *parts)
    if kind == "Exponentiation":
        return nodes.add("Pow", _own_likeness(nodes, kernel.kernel, rows), _number(nodes, kernel.exponent))
    if kind == "DotProduct":
        return nodes.add("Add", _sum(nodes, nodes.add("Mul", rows, rows)), _number(nodes, kernel.sigma_0**2))
    constants = {"ConstantKernel": "constant_value", "WhiteKernel": "noise_level"}
    return _number(nodes, getattr(kernel, constants[kind]) if kind in constants else 1)
