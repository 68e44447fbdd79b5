"""
Missing values in a graph, and the imputers that fill them.

A tensor of strings holds neither None nor NaN, so the codec puts a reserved text for each. Encoders know these texts as
the categories None and NaN, and an imputer as what it fills. Numbers are filled as int64 or float64, where ONNX's
own operator knows float32.

Invariant: no text of a user's is a reserved one. The codec refuses those.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, is_text, is_whole, nodes_of, numbers, put, source
from redisai_engine.codec.values import MARKS, Array

# The version of ai.onnx.ml with the LabelEncoder from any type to any.
_ML_OPSET = 2


def as_text(value: Any) -> str:
    """Return what stands in a tensor for a category or a value that counts as missing."""
    if value is None:
        return MARKS["None"]
    return MARKS["NaN"] if isinstance(value, float) and np.isnan(value) else str(value)


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    imputer = operator.raw_operator
    nodes = nodes_of(scope, "imputer")
    fill = _filled_text if is_text(operator.inputs[0]) else _filled_numbers
    filled = fill(nodes, operator, imputer)
    kept = _kept(imputer)
    if len(kept) < len(imputer.statistics_):
        filled = nodes.add("Gather", filled, nodes.constant(kept), axis=1)
    give(nodes, filled, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container, _ML_OPSET)


def _kept(imputer: Any) -> Array:
    """Return the positions of the columns that an imputer gives: not those that had no value at all in training."""
    statistics = imputer.statistics_.tolist()
    return np.array([at for at, value in enumerate(statistics) if imputer.keep_empty_features or not _is_nan(value)])


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and np.isnan(value)


def _filled_text(nodes: Nodes, operator: Any, imputer: Any) -> str:
    filling = [as_text(value) for value in imputer.statistics_.tolist()]
    rows = source(nodes, operator)
    missing = nodes.add(
        "LabelEncoder",
        rows,
        domain="ai.onnx.ml",
        keys_strings=[as_text(imputer.missing_values)],
        values_int64s=[1],
        default_int64=0,
    )
    return nodes.add("Where", nodes.cast(missing, np.bool_), nodes.constant(np.array([filling])), rows)


def _filled_numbers(nodes: Nodes, operator: Any, imputer: Any) -> str:
    # An average is no integer. What counts the most often, or is given, is one.
    whole = is_whole(operator.inputs[0]) and imputer.strategy in ("most_frequent", "constant")
    dtype = np.int64 if whole else np.float64
    # A column without any number has none to fill in.
    nothing = 0 if whole else np.nan
    filling = [[nothing if value is None or _is_nan(value) else value for value in imputer.statistics_.tolist()]]
    rows = source(nodes, operator) if whole else numbers(nodes, operator)
    marks = imputer.missing_values
    # Nothing but a number is ever equal to a number.
    if _is_nan(marks) or not isinstance(marks, (int, float)):
        missing = nodes.add("IsNaN", numbers(nodes, operator))
    else:
        missing = nodes.add("Equal", rows, nodes.constant(dtype(marks)))
    return nodes.add("Where", missing, nodes.constant(np.array(filling, dtype)), rows)
