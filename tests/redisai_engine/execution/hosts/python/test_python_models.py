"""Python models (backend PYFUNC): stored, described and run by tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import redis
from sklearn.linear_model import LinearRegression

from support.python_models import archive
from support.servers import Server, start_engine


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    engine = start_engine(tmp_path_factory.mktemp("python"), "--python-models", "yes")
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def client(serving: Server) -> redis.Redis:
    return serving.client(socket_timeout=120)


def test_a_model_of_columns_is_run_by_a_tensor(client: redis.Redis, tmp_path: Path) -> None:
    """The tensor's columns get the names and types of the signature, without which MLflow refuses the input."""
    rows = np.random.default_rng(1).normal(size=(50, 3))
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    model = LinearRegression().fit(frame, rows @ [1.0, 2.0, 3.0] + 4)
    mlflow.sklearn.save_model(
        model, tmp_path / "m", signature=mlflow.models.infer_signature(frame), pip_requirements=[]
    )

    store = ["AI.MODELSTORE", "m", "PYFUNC", "CPU", "TAG", "v1", "INPUTS", 1, "rows", "OUTPUTS", 1, "answers"]
    assert client.execute_command(*store, "BLOB", archive(tmp_path / "m")) == b"OK"
    client.execute_command("AI.TENSORSET", "x", "DOUBLE", 50, 3, "BLOB", rows.tobytes())
    assert client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y") == b"OK"
    answer = np.frombuffer(client.execute_command("AI.TENSORGET", "y", "BLOB"))

    np.testing.assert_array_equal(answer, model.predict(frame))
    meta = client.execute_command("AI.MODELGET", "m", "META")
    assert dict(zip(meta[::2], meta[1::2], strict=True))[b"inputs"] == [b"rows"]
