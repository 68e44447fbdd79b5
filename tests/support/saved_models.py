"""Real models saved to folders. That is fast, because no tracking store is involved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from support.mlflow_models import LoggedModel, wine_frame

LARGE_WIDTH = 4200


def save_wine(folder: Path, classifier: Any, labels: Any, *, example: bool = True) -> LoggedModel:
    """Save a classifier of the wine data as an MLflow model."""
    import mlflow
    from mlflow.models import infer_signature

    frame, _ = wine_frame()
    model = classifier.fit(frame, labels)
    mlflow.sklearn.save_model(
        model,
        str(folder),
        signature=infer_signature(frame, model.predict(frame)),
        input_example=frame.head(5) if example else None,
        pip_requirements=["scikit-learn"],  # given, because inferring them takes longer than the test
    )
    return LoggedModel(str(folder), frame)


def save_rent(folder: Path) -> LoggedModel:
    """
    Save a pipeline with a column of text, one of integers and one of numbers.

    Its answer is 2 * size + 10 * rooms, plus 70 in Ulm.
    """
    import mlflow
    from mlflow.models import infer_signature
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "town": random.choice(["Ulm", "Köln", "001"], 90),
            "rooms": random.integers(1, 9, 90),
            "size": random.uniform(20, 200, 90),
        }
    )
    rent = 2 * frame["size"] + 10 * frame["rooms"] + 70 * (frame["town"] == "Ulm")
    encoder = ColumnTransformer([("town", OneHotEncoder(handle_unknown="ignore"), ["town"])], remainder="passthrough")
    model = make_pipeline(encoder, LinearRegression()).fit(frame, rent)
    mlflow.sklearn.save_model(
        model,
        str(folder),
        signature=infer_signature(frame, model.predict(frame)),
        input_example=frame.head(5),
        pip_requirements=["scikit-learn"],
    )
    return LoggedModel(str(folder), frame)


def save_multiplication(folder: Path, factor: float, *, width: int = 2, bare: bool = False) -> LoggedModel:
    """Save the ONNX model y = x * factor for rows of `width` numbers. `bare`: without signature and input example."""
    return _save_graph(folder, "Mul", np.array([factor], np.float32), width, bare=bare)


def save_large(folder: Path, factor: float) -> LoggedModel:
    """
    Save the same model for rows of LARGE_WIDTH numbers, with 67 MB of weights, so that the plugin shows a progress bar.
    """
    return _save_graph(folder, "MatMul", np.eye(LARGE_WIDTH, dtype=np.float32) * np.float32(factor), LARGE_WIDTH)


def _save_graph(folder: Path, operator: str, weights: np.ndarray, width: int, *, bare: bool = False) -> LoggedModel:
    import mlflow
    import onnx
    from mlflow.models import infer_signature
    from onnx import TensorProto, helper, numpy_helper

    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "factor"], ["y"])],
        "multiplication",
        [helper.make_tensor_value_info("x", float32, [None, width])],
        [helper.make_tensor_value_info("y", float32, [None, width])],
        [numpy_helper.from_array(weights, "factor")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    rows = np.arange(2 * width, dtype=np.float32).reshape(2, width)
    mlflow.onnx.save_model(
        model,
        str(folder),
        signature=None if bare else infer_signature(rows, rows),
        input_example=None if bare else rows,
        pip_requirements=["onnx"],
        save_as_external_data=False,
    )
    return LoggedModel(str(folder), pd.DataFrame(rows))
