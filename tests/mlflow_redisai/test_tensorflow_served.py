"""TensorFlow and Keras models end to end: from the command line to a running engine, and back."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from mlflow_redisai import RedisAIClient
from mlflow_redisai.deploy.verification import PASSED_TRIALS
from redisai_engine.codec.compare import compare
from support.examples import run_example
from support.tf_models import (
    classifier,
    matrix,
    module,
    old_inputs,
    old_model,
    rows,
    save,
    save_old_saved_model,
    weights,
)

if TYPE_CHECKING:
    from conftest import Cli
    from support.servers import Server


# The rows, out of 569, on which no model here was trained.

MISSING = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")]


HELD_OUT = slice(300, None)


@pytest.mark.parametrize("backend", ["ONNX", "TF", "TFLITE"])
def test_the_engine_serves_a_keras_model(backend: str, tmp_path: Path, client: RedisAIClient) -> None:
    path = save(tmp_path / "m", "keras", classifier(), rows()[:3])
    name = f"keras-{backend}"
    if backend == "TFLITE" and importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("not installed: ai_edge_litert")

    client.create_deployment(name, str(path), config={"backend": backend})

    deployment = client.get_deployment(name)
    served = client.predict(name, rows()).get_predictions()
    assert deployment["backend"] == backend
    assert compare(classifier().predict(rows(), verbose=0), served, 1e-6) is not None


def test_the_engine_serves_an_old_saved_model(tmp_path: Path, client: RedisAIClient) -> None:
    """
    Tags, a signature's key, text among the outputs: TensorFlow runs the model, and 569 rows come back in pyfunc's
    frame.
    """
    from mlflow.pyfunc import load_model

    path = save_old_saved_model(tmp_path, old_model)
    frame = pd.DataFrame({"measures": list(rows()), "age": old_inputs()["age"]})

    created = client.create_deployment("old", str(path), config={"backend": "TF"})

    answer, expected = client.predict("old", frame).get_predictions(), load_model(str(path)).predict(frame)
    assert created["verification"]["status"] == PASSED_TRIALS
    assert isinstance(answer, pd.DataFrame)
    # TensorFlow's own order differs between processes, and the model was converted in a child.
    assert set(answer) == set(expected)
    assert answer["classes"].tolist() == [value.decode() for value in expected["classes"]]
    assert answer["class_ids"].tolist() == expected["class_ids"].tolist()
    difference = np.array(answer["probabilities"].tolist()) - np.array(expected["probabilities"].tolist())
    assert np.abs(difference).max() < 1e-5


def test_the_command_line_tells_why_tensorflow_runs_a_model(tmp_path: Path, engine: Server, cli: Cli) -> None:
    """Logged, created and queried as a user would do it."""
    import tensorflow as tf

    scored = module(lambda weights, inputs: tf.math.lgamma(1 + tf.abs(inputs @ weights)), matrix())
    path = save(tmp_path / "m", "tensorflow", scored, rows()[:3])
    target = f"redisai://127.0.0.1:{engine.port}"
    (tmp_path / "rows.json").write_text(json.dumps({"inputs": rows()[HELD_OUT].tolist()}))

    created = cli("deployments", "create", "-t", target, "--name", "lgamma", "-m", str(path))
    asked = cli("deployments", "predict", "-t", target, "--name", "lgamma", "-I", str(tmp_path / "rows.json"))

    assert "tensorflow deployment lgamma is created" in created.stdout
    assert "uses Lgamma, which ONNX has no operator for" in str(RedisAIClient(target).get_deployment("lgamma"))
    expected = tf.math.lgamma(1 + np.abs(rows()[HELD_OUT] @ weights())).numpy()
    answer = np.array(json.loads(asked.stdout[asked.stdout.index("{") :])["predictions"], np.float32)
    assert compare(expected, answer, 1e-5) is not None


def test_the_example_shows_that_both_answer_alike(engine: Server, mlflow_store: str, tmp_path: Path) -> None:
    assert "deployed with backend ONNX" in run_example("keras_digits.py", engine, mlflow_store, tmp_path)
