"""
Functions of numpy that ONNX has too, as a step (FunctionTransformer) or on the target (TransformedTargetRegressor), and
powers of columns.

Invariant: a function that isn't in the table is refused by its name, and the refusal lists those that are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, nodes_of, numbers, put

# The operator for each of numpy's functions that is a single one, of those that ONNX Runtime has for float64.
_OPERATORS = {
    "absolute": "Abs",
    "ceil": "Ceil",
    "cos": "Cos",
    "exp": "Exp",
    "fabs": "Abs",
    "floor": "Floor",
    "log": "Log",
    "negative": "Neg",
    "positive": "Identity",
    "reciprocal": "Reciprocal",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}


def _square(nodes: Nodes, x: str) -> str:
    return nodes.add("Mul", x, x)


def _log1p(nodes: Nodes, x: str) -> str:
    """Add log(1 + x), exact for a small x too: what the sum has lost is made up for by a factor."""
    one = nodes.constant(np.float64(1))
    more = nodes.add("Add", x, one)
    factor = nodes.add("Div", x, nodes.add("Sub", more, one))
    exact = nodes.add("Mul", nodes.add("Log", more), factor)
    return _unless(nodes, more, 1.0, x, _unless(nodes, more, np.inf, x, exact))


def _expm1(nodes: Nodes, x: str) -> str:
    """Add exp(x) - 1, exact for a small x too: what the difference has lost is made up for by a factor."""
    power = nodes.add("Exp", x)
    less = nodes.add("Sub", power, nodes.constant(np.float64(1)))
    exact = nodes.add("Div", nodes.add("Mul", less, x), nodes.add("Log", power))
    exact = _unless(nodes, power, 0.0, less, _unless(nodes, power, np.inf, power, exact))
    return _unless(nodes, power, 1.0, x, exact)


def _unless(nodes: Nodes, tested: str, value: float, then: str, otherwise: str) -> str:
    return nodes.add("Where", nodes.add("Equal", tested, nodes.constant(np.float64(value))), then, otherwise)


def _times(operator: str, factor: float) -> Callable[[Nodes, str], str]:
    return lambda nodes, x: nodes.add("Mul", nodes.add(operator, x), nodes.constant(np.float64(factor)))


def _exp2(nodes: Nodes, x: str) -> str:
    return nodes.add("Pow", nodes.constant(np.float64(2)), x)


_COMPOSED: dict[str, Callable[[Nodes, str], str]] = {
    "exp2": _exp2,
    "expm1": _expm1,
    "log10": _times("Log", 1 / np.log(10)),
    "log1p": _log1p,
    "log2": _times("Log", 1 / np.log(2)),
    "square": _square,
}


# The names of numpy's functions that can be converted.
FUNCTIONS = tuple(f"numpy.{name}" for name in sorted({*_OPERATORS, *_COMPOSED}))


def is_known(function: Any) -> bool:
    """Return whether a function can be converted. None stands for no function at all."""
    # Others may have the same name: math.log takes a single number, and a user's square may do anything.
    return function is None or (isinstance(function, np.ufunc) and f"numpy.{function.__name__}" in FUNCTIONS)


def apply_function(nodes: Nodes, function: Any, x: str) -> str:
    """Return the name of what a function makes of the matrix `x`. Raise NotConvertible if it isn't known."""
    if function is None:
        return x
    if not is_known(function):
        name = getattr(function, "__name__", "its function")
        raise NotConvertible(
            f"the Python function {name} can't be converted to ONNX; use one of {', '.join(FUNCTIONS)}"
        )
    name = function.__name__
    return nodes.add(_OPERATORS[name], x) if name in _OPERATORS else _COMPOSED[name](nodes, x)


def function_shapes(operator: Any) -> None:
    widths = [item.type.shape[1] for item in operator.inputs]
    shape = [operator.inputs[0].get_first_dimension(), None if None in widths else sum(widths)]
    operator.outputs[0].type = type(operator.inputs[0].type)(shape)


def convert_function(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "function")
    function = operator.raw_operator.func
    if function is None:
        inputs = [item.full_name for item in operator.inputs]
        answer = inputs[0] if len(inputs) == 1 else nodes.add("Concat", *inputs, axis=1)
    else:
        answer = apply_function(nodes, function, numbers(nodes, operator))
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


# -- powers ---------------------------------------------------------------------------------------


def convert_powers(scope: Any, operator: Any, container: Any) -> None:
    """Write the powers by which columns become normal. skl2onnx mixes types, and rounds near a power of zero."""
    nodes = nodes_of(scope, "powers")
    estimator = operator.raw_operator
    powers = np.asarray(estimator.lambdas_, np.float64)
    x = numbers(nodes, operator)
    if estimator.method == "box-cox":
        answer = _power(nodes, nodes.add("Log", x), powers, 0.0)
    else:
        zero = nodes.constant(np.float64(0))
        below = nodes.add("Less", x, zero)
        above = _power(nodes, _log1p(nodes, nodes.add("Where", below, zero, x)), powers)
        size = nodes.add("Where", below, nodes.add("Neg", x), zero)
        answer = nodes.add("Where", below, nodes.add("Neg", _power(nodes, _log1p(nodes, size), 2 - powers)), above)
    if estimator.standardize:
        moved = nodes.add("Sub", answer, nodes.constant(np.asarray(estimator._scaler.mean_, np.float64)))
        answer = nodes.add("Div", moved, nodes.constant(np.asarray(estimator._scaler.scale_, np.float64)))
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


def _power(nodes: Nodes, logarithm: str, powers: Any, least: float = float(np.finfo(np.float64).eps)) -> str:
    """Return the name of the powers less one by the exponents, the logarithm itself for an exponent of almost zero."""
    is_zero = np.abs(powers) <= least
    exponents = nodes.constant(np.where(is_zero, 1.0, powers))
    found = nodes.add("Div", _expm1(nodes, nodes.add("Mul", logarithm, exponents)), exponents)
    return nodes.add("Where", nodes.constant(is_zero), logarithm, found) if is_zero.any() else found


# -- the target -----------------------------------------------------------------------------------


def parse_transformed_target(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Declare the regressor inside, whose answer is the only input of the operator for the target's way back."""
    from skl2onnx._parse import _parse_sklearn

    inner = _parse_sklearn(scope, model.regressor_, inputs, custom_parsers=custom_parsers)
    operator = scope.declare_local_operator("OwnTransformedTargetRegressor", model)
    operator.inputs.append(inner[0])
    operator.outputs.append(scope.declare_local_variable("variable", type(inner[0].type)()))
    return operator.outputs


def transformed_target_shapes(operator: Any) -> None:
    operator.outputs[0].type = type(operator.inputs[0].type)(operator.inputs[0].type.shape)


def convert_transformed_target(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "target")
    answer = _inverse(nodes, operator.raw_operator.transformer_, numbers(nodes, operator))
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)


def _inverse(nodes: Nodes, transformer: Any, x: str) -> str:
    from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, StandardScaler

    if isinstance(transformer, FunctionTransformer) and not transformer.inv_kw_args:
        return apply_function(nodes, transformer.inverse_func, x)
    if isinstance(transformer, StandardScaler):
        scaled = x if transformer.scale_ is None else nodes.add("Mul", x, nodes.constant(transformer.scale_))
        shift = transformer.mean_ if transformer.with_mean else None
        return scaled if shift is None else nodes.add("Add", scaled, nodes.constant(shift))
    if isinstance(transformer, MinMaxScaler):
        shifted = nodes.add("Sub", x, nodes.constant(transformer.min_))
        return nodes.add("Div", shifted, nodes.constant(transformer.scale_))
    if isinstance(transformer, MaxAbsScaler):
        return nodes.add("Mul", x, nodes.constant(transformer.scale_))
    raise NotConvertible(
        f"the inverse of the target's {type(transformer).__name__} can't be converted to ONNX; use a function of "
        "numpy, StandardScaler, MinMaxScaler or MaxAbsScaler"
    )
