"""
Fixtures that all tests share: real servers, one MLflow store per session, and the `mlflow` command.

Each block below is one concern. Fixtures for a single package are in a conftest.py in that package's folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Set before the first import of mlflow or of a framework.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"
# By default, waiting OpenMP threads spin. Next to other processes, that makes boosted trees take six times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import HealthCheck, settings

from support.mlflow_models import LoggedModel, log_wine_classifier
from support.servers import Server, start_engine, start_redis

if TYPE_CHECKING:
    from typing_extensions import Self

# A shell that runs the tests in the background makes them ignore Ctrl-C, along with every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is not a failure, and one server is meant to serve all examples of a property.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("tests")


# -- environment ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_redis_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Remove variables of the person who runs the tests, so that they don't configure the plugin or the engine.

    Remove MLflow's own as well: with `set_experiment`, child processes would look for an experiment that other stores
    lack.
    """
    for name in list(os.environ):
        if name.startswith(("REDIS_", "REDISAI_")) or name == "MLFLOW_EXPERIMENT_ID":
            monkeypatch.delenv(name)


# -- servers --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A plain redis-server, shared by the session. Use unique keys and never FLUSHALL."""
    server = start_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine with an embedded redis-server, shared by the session. Use unique keys and never FLUSHALL."""
    server = start_engine(tmp_path_factory.mktemp("engine"))
    yield server
    server.stop()


@pytest.fixture
def new_redis(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts further plain redis-servers for one test: `new_redis("--requirepass", "secret")`."""
    yield from _factory(tmp_path, "redis", start_redis)


@pytest.fixture
def new_engine(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts further engines for one test: `new_engine("--redis", redis_server.url)`."""
    yield from _factory(tmp_path, "engine", start_engine)


def _factory(folder: Path, kind: str, start: Callable[..., Server]) -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as running:
        count = 0

        def launch(*arguments: str, **options: object) -> Server:
            nonlocal count
            count += 1
            server = start(folder / f"{kind}{count}", *arguments, **options)
            running.callback(server.stop)
            return server

        yield launch


# -- MLflow ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's tracking store and model registry (sqlite), set for this process and its child processes."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)

        import mlflow

        mlflow.set_tracking_uri(uri)
        mlflow.create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
        mlflow.set_experiment("tests")
        yield uri


@pytest.fixture(scope="session")
def wine(mlflow_store: str) -> LoggedModel:
    """A wine classifier: named columns, signature, input example, registered as `wine` with the alias `champion`."""
    return log_wine_classifier("wine")


class Cli:
    """Runs `mlflow ...` as a user would, in a separate process."""

    def __init__(self, environment: dict[str, str], cwd: Path) -> None:
        self.environment = environment
        self.cwd = cwd

    def run(self, *arguments: str, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlflow", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, **self.environment},
            cwd=self.cwd,
            check=False,
        )

    def __call__(self, *arguments: str, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
        """Like `run`, but if the command fails, the test fails."""
        result = self.run(*arguments, timeout_s=timeout_s)
        assert result.returncode == 0, f"mlflow {' '.join(arguments)}\n{result.stdout}\n{result.stderr}"
        return result

    def with_environment(self, **variables: str) -> Self:
        return type(self)({**self.environment, **variables}, self.cwd)


@pytest.fixture
def cli(mlflow_store: str, tmp_path: Path) -> Cli:
    """The `mlflow` command on the session's store. `cli(...)` must succeed, `cli.run(...)` may fail."""
    return Cli({"MLFLOW_TRACKING_URI": mlflow_store}, tmp_path)
