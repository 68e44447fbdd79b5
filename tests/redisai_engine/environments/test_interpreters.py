"""Interpreters that a model names by their path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from redisai_engine.environments.interpreters import checked_interpreter
from redisai_engine.errors import EnvironmentFailure


def refusal(path: object) -> str:
    with pytest.raises(EnvironmentFailure) as caught:
        checked_interpreter(path)
    return caught.value.wire.removeprefix("ERR no environment for the model: ")


def program(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_python_with_mlflow_is_taken() -> None:
    assert checked_interpreter(sys.executable) == sys.executable


@pytest.mark.parametrize("path", ["python3", "", None, 7, "/bin/python\n", "/" + "x" * 2000])
def test_it_must_be_an_absolute_path(path: object) -> None:
    assert refusal(path) == f"{str(path)[:100]!r} isn't the absolute path of a Python"


def test_it_must_be_a_file(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)) == f"the engine's machine has no file {tmp_path}"
    assert refusal("/nowhere/python") == "the engine's machine has no file /nowhere/python"


def test_it_must_be_executable(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.touch(0o644)

    assert refusal(str(path)) == f"{path} can't be executed by the engine's user"


@pytest.mark.parametrize("text", ["exit 1", "echo nonsense", "echo '[3, 11]'", "echo '{}'", "kill -9 $$"])
def test_it_must_answer_as_a_python(tmp_path: Path, text: str) -> None:
    path = program(tmp_path, text)

    assert refusal(path) == f"{path} isn't a Python: it doesn't answer as one"


def test_it_must_not_be_too_old(tmp_path: Path) -> None:
    path = program(tmp_path, "echo '[[3, 8], []]'")

    assert refusal(path) == f"{path} is Python 3.8; models need 3.9 or newer"


def test_it_must_have_mlflow(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True, timeout=60)
    path = tmp_path / "empty" / "bin" / "python"

    assert refusal(str(path)) == f"{path} has no mlflow: {path} -m pip install mlflow numpy"


def test_it_is_asked_without_the_engines_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "geheim")
    path = program(tmp_path, f"env > {tmp_path}/seen; echo '[[3, 11], []]'")

    checked_interpreter(path)

    assert "geheim" not in (tmp_path / "seen").read_text()
