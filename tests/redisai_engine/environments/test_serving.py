"""Models stored with an environment: built while they are stored, and what their workers run with from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import redis
import sklearn
import yaml
from sklearn.linear_model import LinearRegression

from support.obedient import archive, workers_of
from support.servers import Server, start_engine

COLUMNS = ["a", "b", "c"]
ROWS = np.random.default_rng(1).normal(size=(20, 3))


@dataclass(frozen=True)
class SavedModel:
    """A model's folder, what its redisai.json says of the environment, and its answers in this process."""

    folder: Path
    environment: dict[str, object]
    answers: np.ndarray

    def blob(self, **environment: object) -> bytes:
        return archive(self.folder, {"environment": self.environment | environment})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """A model as MLflow saves it, with the requirements that it writes."""
    folder = tmp_path_factory.mktemp("model") / "m"
    frame = pd.DataFrame(ROWS, columns=COLUMNS)
    model = LinearRegression().fit(frame, ROWS @ [1.0, 2.0, 3.0] + 4)
    needed = f"scikit-learn=={sklearn.__version__}"
    mlflow.sklearn.save_model(
        model, folder, signature=mlflow.models.infer_signature(frame), pip_requirements=["pandas", needed]
    )
    python = yaml.safe_load((folder / "python_env.yaml").read_text())["python"]
    lines = (folder / "requirements.txt").read_text().splitlines()
    return SavedModel(folder, {"kind": "uv", "python": python, "requirements": lines}, model.predict(frame))


def store(client: redis.Redis, blob: bytes) -> None:
    words = ["AI.MODELSTORE", "m", "PYFUNC", "CPU", "INPUTS", 1, "rows", "OUTPUTS", 1, "answers"]
    assert client.execute_command(*words, "BLOB", blob) == b"OK"


def answers(client: redis.Redis) -> np.ndarray:
    client.execute_command("AI.TENSORSET", "x", "DOUBLE", *ROWS.shape, "BLOB", ROWS.tobytes())
    assert client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y") == b"OK"
    return np.frombuffer(client.execute_command("AI.TENSORGET", "y", "BLOB"))


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts an engine with the same Redis and the same environments each time."""
    started: list[Server] = []

    def start_one(**variables: str) -> Server:
        settings = ["--python-models", "yes", "--env-dir", str(tmp_path / "environments")]
        started.append(start_engine(tmp_path, *settings, environment=variables))
        return started[-1]

    yield start_one
    for engine in started:
        engine.stop()


@pytest.mark.network
def test_a_model_runs_in_the_environment_that_was_built_when_it_was_stored(
    start: Start, saved: SavedModel, tmp_path: Path
) -> None:
    """The next engine finds the environment, and needs neither network nor downloads."""
    engine = start()
    client = engine.client(socket_timeout=240)
    try:
        store(client, saved.blob())
    except redis.ResponseError as error:
        if "the package index can't be reached" in str(error) or "the package index has no " in str(error):
            pytest.skip(f"uv finds no package index with these packages here: {error}")
        raise
    np.testing.assert_array_equal(answers(client), saved.answers)
    (environment,) = (tmp_path / "environments" / "ready").iterdir()
    (worker,) = workers_of(engine)
    assert worker.cmdline()[0] == str(environment / "bin" / "python")
    log = engine.log.read_text()
    assert "+ scikit-learn==" in log
    engine.stop()

    again = start(UV_OFFLINE="1", UV_CACHE_DIR=str(tmp_path / "empty"))
    client = again.client(socket_timeout=240)
    np.testing.assert_array_equal(answers(client), saved.answers)
    (worker,) = workers_of(again)
    assert worker.cmdline()[0] == str(environment / "bin" / "python")

    store(client, saved.blob(kind="path", path=str(environment / "bin" / "python")))
    np.testing.assert_array_equal(answers(client), saved.answers)


def test_a_model_whose_environment_can_not_be_built_is_not_stored(
    start: Start, saved: SavedModel, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    engine = start(UV_NO_INDEX="1", UV_FIND_LINKS=str(tmp_path / "wheels"))
    client = engine.client(socket_timeout=240)

    with pytest.raises(redis.ResponseError, match="no environment for the model: the package index has no "):
        store(client, saved.blob())
    with pytest.raises(redis.ResponseError, match=r"its requirement .-e \.. is refused: options"):
        store(client, saved.blob(requirements=["-e ."]))
    with pytest.raises(redis.ResponseError, match="no environment for the model: the engine's machine has no file /no"):
        store(client, saved.blob(kind="path", path="/nowhere/python"))

    assert not client.exists("m")
    assert workers_of(engine) == []
