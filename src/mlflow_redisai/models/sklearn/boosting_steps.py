"""
Boosted models as steps of a scikit-learn pipeline: skl2onnx calls back here for XGBoost, LightGBM and CatBoost.

This module fits the nodes of `trees.ensemble` into a graph that skl2onnx builds. A library that the process hasn't
imported can't be part of the pipeline, so it isn't imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.nodes import Nodes
from mlflow_redisai.models.parts import give, nodes_of, put, source
from mlflow_redisai.models.sklearn.sparse_rows import rows_of_steps
from mlflow_redisai.models.trees.convert import NEWEST_NEEDED, reader
from mlflow_redisai.models.trees.ensemble import write
from redisai_engine.codec.mapping import Schema

_STEPS = {
    "xgboost": ("XGBClassifier", "XGBRFClassifier", "XGBRegressor", "XGBRFRegressor", "XGBRanker"),
    "lightgbm": ("LGBMClassifier", "LGBMRegressor", "LGBMRanker"),
    "catboost": ("CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker"),
}


def register_boosting(estimator: Any) -> None:
    """
    Register, with skl2onnx, the estimators of all boosting libraries that are already imported.

    `estimator` is the one that skl2onnx is about to convert.
    """
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    rows = {id(step): sparse for step, sparse in rows_of_steps(estimator)}
    for library, names in _STEPS.items():
        for name in names if library in sys.modules else ():
            classifies = name.endswith("Classifier")
            update_registered_converter(
                getattr(sys.modules[library], name),
                f"Boosted{name}",
                calculate_linear_classifier_output_shapes if classifies else calculate_linear_regressor_output_shapes,
                _converter(library, rows),
                parser=_parser(f"Boosted{name}") if classifies else None,
                options=_options(getattr(sys.modules[library], name)) if classifies else None,
            )


def _options(kind: type) -> dict[str, list[Any]]:
    """Return the options that a classifier's converter takes, among them raw_scores if it has a decision function."""
    # Calibration works on the decision function of classifiers that have one, as LightGBM's do from 4.7 on.
    scores = {"raw_scores": [True, False]} if hasattr(kind, "decision_function") else {}
    return {"zipmap": [True, False, "columns"], "nocl": [True, False], **scores}


def _parser(alias: str) -> Callable[..., Any]:
    """
    Return a parser that declares the outputs label and probabilities.

    On its own, skl2onnx declares these only for classes that inherit from scikit-learn's classifiers.
    """

    def parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
        from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

        del custom_parsers
        operator = scope.declare_local_operator(alias, model)
        operator.inputs.extend(inputs)
        # The types are placeholders; the shape calculator sets the final ones.
        for name, kind in (("label", Int64TensorType), ("probabilities", FloatTensorType)):
            operator.outputs.append(scope.declare_local_variable(name, kind()))
        return operator.outputs

    return parse


def _converter(library: str, rows: dict[int, bool | None]) -> Callable[[Any, Any, Any], None]:
    """Return a converter of a library's estimators. `rows` says which of them receive sparse rows, by their ids."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        boosted = reader(library)(operator.raw_operator, Schema("columns", ()))
        if boosted.categories:
            raise NotConvertible(f"categories of {library} itself can't be converted inside a pipeline")
        if boosted.classes is None and len(operator.outputs) > 1:
            raise NotConvertible(f"a classifier of {library} with an objective function of your own gives no classes")
        # None for an estimator inside another one.
        chosen = container.get_options(operator.raw_operator, {"raw_scores": False}, fail=False) or {}
        if chosen.get("raw_scores"):
            boosted = replace(boosted, link="identity", slope=1.0)
        nodes = nodes_of(scope, library)
        outputs = [item.full_name for item in operator.outputs]
        names = [f"{nodes.prefix}{index}" for index in range(2)]
        ml_opset = min(container.target_opset_all.get("ai.onnx.ml", 1), NEWEST_NEEDED[1])
        rows_in = source(nodes, operator)
        if library == "xgboost":
            rows_in = _with_unstored_zeros(nodes, rows_in, sparse=rows.get(id(operator.raw_operator)))
        write(boosted, nodes, rows_in, (names[0], names[1]), ml_opset)
        for output, name, variable in zip(outputs, names, operator.outputs, strict=False):
            give(nodes, name, output, variable.type)
        put(nodes, container, ml_opset)

    return convert


def _with_unstored_zeros(nodes: Nodes, rows: str, *, sparse: bool | None) -> str:
    """Turn the zeros that sparse rows don't store into gaps, as which XGBoost reads them."""
    if sparse is None:
        raise NotConvertible(
            "XGBoost reads the zeros that sparse rows don't store as gaps, and which zeros these are isn't known here; "
            "make the rows dense before XGBoost, for instance with sparse_output=False or sparse_threshold=0"
        )
    if not sparse:
        return rows
    # Before XGBoost rounds to float32, in which a small number may become zero.
    wide = nodes.cast(rows, np.float64)
    is_zero = nodes.add("Equal", wide, nodes.constant(np.float64(0)))
    return nodes.add("Where", is_zero, nodes.constant(np.float64(np.nan)), wide)
