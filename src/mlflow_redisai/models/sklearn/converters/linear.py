"""Linear regressors in float64; skl2onnx can't convert one without intercept, except to float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_redisai.models.sklearn.converters.writing import give, nodes_of, numbers, put


def convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    nodes = nodes_of(scope, "linear")
    estimator = operator.raw_operator
    dense = estimator.coef_.toarray() if hasattr(estimator.coef_, "toarray") else estimator.coef_
    weights = np.atleast_2d(np.asarray(dense, np.float64)).T.copy()
    product = nodes.add("MatMul", numbers(nodes, operator), nodes.constant(weights))
    answer = nodes.add("Add", product, nodes.constant(np.asarray(estimator.intercept_, np.float64)))
    give(nodes, answer, operator.outputs[0].full_name, operator.outputs[0].type)
    put(nodes, container)
