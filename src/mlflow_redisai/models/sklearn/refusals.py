"""
Why an estimator can't be converted, in our own words: which step fails, and with which options.

skl2onnx and ONNX Runtime report a failure in terms of their own parts. The estimator is found in the stack of the
exception, where skl2onnx's operators are, or by the name of the node that ONNX Runtime refuses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.graph import reason_of
from mlflow_redisai.models.sklearn.estimators import parts, walk
from mlflow_redisai.models.sklearn.options import changed_options

# How ONNX Runtime names a node: when it loads a graph, when it lacks an implementation, and when it runs.
_NODE = re.compile(r"(?:in node \(|with name '|Name:'|Node:)([^)']+?)(?:\)|'| )")

# What only we have a converter for.
_OWN = ("TransformedTargetRegressor", "Transforming")

# The library's text is cut to this length, so that it doesn't hide what is said before it.
_CUT = 120


def unconverted(estimator: Any, error: BaseException) -> str:
    """Return a sentence about the step that skl2onnx failed at."""
    return _without_converter(estimator) or _fails(estimator, _converting(error), "skl2onnx", reason_of(error))


def at_node(problem: NotConvertible, estimator: Any, written: Mapping[str, Any]) -> str | None:
    """
    Return a sentence about the step whose part of the graph ONNX Runtime refuses, None if it isn't the reason.

    `written` has the estimator that each node of the graph was written for.
    """
    error = problem.__cause__
    if error is None or not type(error).__module__.startswith("onnxruntime"):
        return None
    found = _NODE.search(str(error))
    return _fails(estimator, written.get(found[1]) if found else None, "ONNX Runtime", reason_of(error))


def _without_converter(estimator: Any) -> str | None:
    from skl2onnx._supported_operators import sklearn_operator_name_map

    for path, part in parts(estimator):
        kind = type(part)
        if kind not in sklearn_operator_name_map and kind.__name__ not in _OWN:
            return (
                f"{_where(path, part)} of {kind.__module__} has no converter; there are converters for most of "
                "scikit-learn, XGBoost, LightGBM and CatBoost"
            )
    return None


def _converting(error: BaseException) -> Any:
    """Return the estimator that skl2onnx was converting, None if it hadn't come to any."""
    found, frame = None, error.__traceback__
    while frame is not None:
        names = frame.tb_frame.f_locals
        # A converter gets an operator; a parser gets the estimator itself.
        for one in (getattr(names.get("operator"), "raw_operator", None), names.get("model")):
            found = one if hasattr(one, "get_params") else found
        frame = frame.tb_next
    return found


def _fails(model: Any, estimator: Any, library: str, reason: str) -> str:
    estimator = model if estimator is None else estimator
    path = next((path for path, inner in walk(model) if inner is estimator), "")
    options = changed_options(estimator)
    shown = f" with {', '.join(options)}" if options else ""
    cut = reason if len(reason) <= _CUT else f"{reason[:_CUT].rstrip()} ..."
    return (
        f"{_where(path, estimator)}{shown} has no conversion to ONNX that works; "
        f"use {'other options or ' if options else ''}another estimator in its place ({library}: {cut})"
    )


def _where(path: str, estimator: Any) -> str:
    name = type(estimator).__name__
    return f"step {path} ({name})" if path else name
