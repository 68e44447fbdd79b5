"""Nothing that the project starts reports anything anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.gateway import model_blob
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
