"""
Missing text in a graph: a tensor of strings holds neither None nor NaN, so the codec puts a reserved text for each.

Encoders know these texts as the categories None and NaN, and an imputer as what it fills.

Invariant: no text of a user's is a reserved one. The codec refuses those.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_redisai.models.sklearn.converters.writing import give, is_text, nodes_of, put, source
from redisai_engine.codec.values import MARKS

# The version of ai.onnx.ml with the LabelEncoder from any type to any.
_ML_OPSET = 2


def as_text(value: Any) -> str:
    """Return what stands in a tensor for a category or a value that counts as missing."""
    if value is None:
        return MARKS["None"]
    return MARKS["NaN"] if isinstance(value, float) and np.isnan(value) else str(value)


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Convert a SimpleImputer, for text with a comparison, which skl2onnx can't make with None or NaN."""
    from skl2onnx.operator_converters.imputer_op import convert_sklearn_imputer

    if not is_text(operator.inputs[0]):
        convert_sklearn_imputer(scope, operator, container)
        return
    imputer = operator.raw_operator
    filling = [as_text(value) for value in imputer.statistics_.tolist()]
    nodes = nodes_of(scope, "text_imputer")
    rows = source(nodes, operator)
    missing = nodes.add(
        "LabelEncoder",
        rows,
        domain="ai.onnx.ml",
        keys_strings=[as_text(imputer.missing_values)],
        values_int64s=[1],
        default_int64=0,
    )
    filled = nodes.add("Where", nodes.cast(missing, np.bool_), nodes.constant(np.array([filling])), rows)
    give(nodes, filled, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container, _ML_OPSET)
