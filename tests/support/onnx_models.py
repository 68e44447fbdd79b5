"""ONNX models as people log them: out of skl2onnx, or put together from a few nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def wine() -> tuple[pd.DataFrame, np.ndarray]:
    """178 rows of 13 numbers, and the class of each."""
    data = load_wine(as_frame=True)
    return data.data, data.target.to_numpy()


def wine_model(**options: Any) -> onnx.ModelProto:
    """A classifier of the wine data, by skl2onnx, with these options."""
    frame, target = wine()
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, target)
    return to_onnx(estimator, frame.to_numpy(np.float32), target_opset={"": 15, "ai.onnx.ml": 3}, **options)


def regression_model() -> onnx.ModelProto:
    frame, target = wine()
    estimator = LinearRegression().fit(frame, target)
    return to_onnx(estimator, frame.to_numpy(np.float32), target_opset={"": 15, "ai.onnx.ml": 3})


def graph_model(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    *,
    opset: int = 15,
    ir_version: int = 8,
    weights: tuple[Any, ...] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def tensor(name: str, kind: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def unusual_types(**versions: int) -> onnx.ModelProto:
    """A model of types that RedisAI lacks: it doubles float16, and answers with that and with the same as uint32."""
    return graph_model(
        [
            helper.make_node("Add", ["x", "x"], ["y"]),
            helper.make_node("Cast", ["y"], ["z"], to=TensorProto.UINT32),
        ],
        [tensor("x", TensorProto.FLOAT16, [None])],
        [tensor("y", TensorProto.FLOAT16, [None]), tensor("z", TensorProto.UINT32, [None])],
        **versions,
    )


def four_rows() -> onnx.ModelProto:
    """Doubles exactly four rows of three numbers."""
    flat = numpy_helper.from_array(np.array([12]), "flat")
    back = numpy_helper.from_array(np.array([4, 3]), "back")
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["row"]),
        helper.make_node("Add", ["row", "row"], ["doubled"]),
        helper.make_node("Reshape", ["doubled", "back"], ["y"]),
    ]
    inputs, outputs = [tensor("x", TensorProto.FLOAT, [4, 3])], [tensor("y", TensorProto.FLOAT, [4, 3])]
    return graph_model(nodes, inputs, outputs, weights=(flat, back))
