"""Nothing that the project starts reports anything anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime  # noqa: F401  # here, before the tests below take the variable away from this process
import pytest

from support import sealed
from support.gateway import model_blob
from support.saved_models import save_multiplication
from support.servers import Server

VARIABLE = "ORT_DISABLE_TELEMETRY"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, and an environment that says nothing about reports."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv(VARIABLE, raising=False)
    return folder


@pytest.mark.parametrize("package", ["redisai_engine", "redisai_engine.protocol.tensor", "mlflow_redisai"])
@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_importing_a_package_turns_onnx_runtimes_reports_off(package: str, before: str | None, after: str) -> None:
    """A user's own choice is respected."""
    environment = os.environ | ({} if before is None else {VARIABLE: before})

    shown = subprocess.run(
        [sys.executable, "-c", f"import {package}, os; print(os.environ[{VARIABLE!r}])"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert shown.stdout.strip() == after


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_engine_that_runs_onnx_models_leaves_no_device_id(
    new_engine: Callable[..., Server], home: Path, workers: str
) -> None:
    """ONNX Runtime 1.29 and newer write one on their first import if reports are on."""
    engine = new_engine("--workers", workers)

    for _ in range(4):  # workers share the port, so connect several times
        engine.client().execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", model_blob("Add"))

    assert list(home.rglob("*")) == []


# -- without a network -----------------------------------------------------------------------------

# MLflow reports unless it is told not to. The script tells its own process, and takes the variable away again, so that
# what it starts must see to it by itself.
STORY = """
import os, sys
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import mlflow, numpy, mlflow_redisai
del os.environ["MLFLOW_DISABLE_TELEMETRY"]
from mlflow.deployments import get_deploy_client

model, folder = sys.argv[1:]
mlflow_redisai.run_local("first", model, config={"port": 7000, "data_dir": folder})
client = get_deploy_client("redisai://127.0.0.1:7000/0")
client.create_deployment("second", model)
answer = client.predict("second", numpy.array([[1, 2]], numpy.float32))
assert answer["predictions"]["y"].tolist() == [[2, 4]], answer
os.kill(int(open(os.path.join(folder, "engine.pid")).read()), 15)
"""
LOOK_UP = """
import socket
try:
    socket.getaddrinfo("somewhere.example", 443)
except OSError:
    pass
"""


@pytest.fixture
def clean(home: Path) -> dict[str, str]:
    """An environment that says nothing about reports, and not that tests run, in which MLflow would report nothing."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture(scope="module")
def _namespaces() -> None:
    refusal = sealed.refusal()
    if refusal is not None:
        pytest.skip(f"the kernel allows no network namespace: {refusal}")


@pytest.mark.usefixtures("_namespaces")
def test_a_name_that_is_looked_up_is_seen(clean: dict[str, str], tmp_path: Path) -> None:
    """Else the next test would show nothing."""
    names = sealed.names_looked_up(tmp_path / "report", [sys.executable, "-c", LOOK_UP], clean)

    assert set(names) == {"somewhere.example"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_namespaces")
def test_engine_plugin_and_run_local_look_up_no_name_and_leave_no_file_at_home(
    clean: dict[str, str], home: Path, tmp_path: Path
) -> None:
    model = save_multiplication(tmp_path / "model", 2.0).uri
    story = [sys.executable, "-c", STORY, model, str(tmp_path / "data")]

    assert sealed.names_looked_up(tmp_path / "report", story, clean) == []
    assert list(home.rglob("*")) == []
