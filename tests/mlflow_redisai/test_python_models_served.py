"""
Models that no graph expresses, deployed by MLflow's own command to an engine that runs Python models: they answer as
pyfunc does, to the last bit, and what can't run as Python says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pytest
from click.testing import CliRunner, Result
from mlflow.deployments.cli import commands

from mlflow_redisai import RedisAIClient
from redisai_engine.protocol.parcels import pack
from support import python_models
from support.servers import Server, start_engine

LOCAL = {"env": "local"}


@pytest.fixture(scope="module")
def python_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start_engine(tmp_path_factory.mktemp("python-engine"), "--python-models", "--model-load-timeout", "250000")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("python-models")


def deployments(command: str, server: Server, *arguments: str) -> Result:
    """Run `mlflow deployments COMMAND` in this process: importing MLflow again takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(commands, [command, "-t", server.target, *arguments], catch_exceptions=False)


def create(server: Server, name: str, path: Path, **options: str) -> dict[str, Any]:
    given = {"env": "local", **options}
    config = [word for key, value in given.items() for word in ("-C", f"{key}={value}")]
    result = deployments("create", server, "--name", name, "-m", str(path), *config)
    assert result.exit_code == 0, result.output
    return RedisAIClient(server.target).get_deployment(name)


def assert_as_pyfunc(server: Server, name: str, saved: python_models.Saved, **params: Any) -> None:
    client, original = RedisAIClient(server.target), mlflow.pyfunc.load_model(str(saved.path))
    for inputs in saved.held_out:
        expected = original.predict(inputs, params=params or None)
        answer = client.predict(name, inputs, params=params or None).get_predictions()
        assert type(answer) is type(expected)
        assert pack(answer) == pack(expected), f"expected {expected!r}, got {answer!r}"


WHY = {
    "statsmodels": "runs as Python: there is no maintained converter for its results",
    "spacy": "runs as Python: there is no maintained converter for its pipelines",
    "pmdarima": "runs as Python: an ARIMA forecast continues from the end of its training data, so it isn't a function "
    "of the input",
    "prophet": "runs as Python: Prophet computes a forecast with a program of its own, which no graph can express",
    "scaling": "runs as Python: arbitrary Python can't be made a graph",
    "from_code": "runs as Python: arbitrary Python can't be made a graph",
    "chain": "runs as Python: arbitrary Python can't be made a graph",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WHY)
def test_a_model_without_a_converter_answers_as_pyfunc(python_engine: Server, folder: Path, name: str):
    saved = python_models.save(name, folder)

    shown = create(python_engine, name, saved.path)

    assert shown["backend"] == "PYFUNC"
    assert shown["notes"][0] == WHY[name]
    if name != "chain":  # which has no input example
        assert shown["verification"]["status"] == "passed"
        assert shown["verification"]["difference"] == 0.0
    assert_as_pyfunc(python_engine, name, saved)


@pytest.mark.filterwarnings("ignore")
def test_a_pipeline_with_a_step_of_ones_own_says_which_step_has_no_converter(python_engine: Server, folder: Path):
    saved = python_models.save("own_step", folder)

    shown = create(python_engine, "own_step", saved.path)

    assert (shown["flavor"], shown["backend"]) == ("sklearn", "PYFUNC")
    [note] = shown["notes"]
    assert note.startswith("deployed with backend PYFUNC instead of ONNX: ")
    assert "Ratio" in note
    assert_as_pyfunc(python_engine, "own_step", saved)
