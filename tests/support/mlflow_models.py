"""Real models, trained on data that scikit-learn includes and logged to the session's MLflow store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class LoggedModel:
    """A model in the store: its URI, and rows to predict."""

    uri: str
    frame: pd.DataFrame

    @cached_property
    def pyfunc(self) -> Any:
        import mlflow

        return mlflow.pyfunc.load_model(self.uri)

    def expected(self) -> Any:
        """Return what MLflow's own pyfunc answers for `frame`."""
        return self.pyfunc.predict(self.frame)


def wine_frame() -> tuple[pd.DataFrame, np.ndarray]:
    """Return the wine data as a frame with 13 named float columns, and the class of each row as a string."""
    from sklearn.datasets import load_wine

    data = load_wine(as_frame=True)
    return data.data, np.array(data.target_names)[data.target]


def named(name: str, log_model: Callable[..., Any]) -> dict[str, str]:
    """Return the log_model argument that names the model, which MLflow 2 calls differently."""
    return {"name" if "name" in signature(log_model).parameters else "artifact_path": name}


def log_wine_classifier(name: str, *, regularization: float = 1.0) -> LoggedModel:
    """Train a pipeline (scaler, logistic regression), log it under `name`, and give it the alias `champion`."""
    import mlflow
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame, labels = wine_frame()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=regularization)).fit(frame, labels)
    # Without this block, MLflow 2 would leave a run open.
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            model,
            **named(name, mlflow.sklearn.log_model),
            signature=infer_signature(frame, model.predict(frame)),
            input_example=frame.head(5),
            registered_model_name=name,
        )
    mlflow.MlflowClient().set_registered_model_alias(name, "champion", str(info.registered_model_version))
    return LoggedModel(f"models:/{name}@champion", frame)
