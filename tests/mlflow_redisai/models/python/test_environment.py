"""Where a Python model finds its packages, read from the files that every version of MLflow logs beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_redisai.errors import NotConvertible
from mlflow_redisai.models.python.environment import environment

REQUIREMENTS = "mlflow==3.17.2\n# a comment\nnumpy==2.4.6  # another\n-c constraints.txt\n--extra-index-url x\n\n"


def wanted(folder: Path, **files: str) -> object:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return environment("uv", folder, "the model")


def test_the_engines_own_and_a_given_python(tmp_path: Path):
    assert environment("local", tmp_path, "the model") == {"kind": "local"}
    assert environment("/opt/py/bin/python", tmp_path, "the model") == {"kind": "path", "path": "/opt/py/bin/python"}


def test_what_mlflow_logs(tmp_path: Path):
    env = "python: 3.11.7\nbuild_dependencies:\n- pip==23\ndependencies:\n- -r requirements.txt\n"

    assert wanted(tmp_path, python_env__yaml=env, requirements__txt=REQUIREMENTS) == {
        "kind": "uv",
        "python": "3.11.7",
        "requirements": ["mlflow==3.17.2", "numpy==2.4.6"],
        "lock": False,
    }


def test_what_older_versions_log(tmp_path: Path):
    conda = "channels: [x]\ndependencies:\n- python=3.9.13\n- pip<=22\n- pip:\n  - mlflow\n  - scikit-learn==1.0.2\n"

    assert wanted(tmp_path, conda__yaml=conda) == {
        "kind": "uv",
        "python": "3.9.13",
        "requirements": ["mlflow", "scikit-learn==1.0.2"],
        "lock": False,
    }


def test_requirements_alone(tmp_path: Path):
    assert wanted(tmp_path, requirements__txt="mlflow") == {
        "kind": "uv",
        "python": None,
        "requirements": ["mlflow"],
        "lock": False,
    }


def test_a_lock_decides_and_is_said(tmp_path: Path):
    found = wanted(tmp_path, uv__lock="version = 1", pyproject__toml="[project]")

    assert found == {"kind": "uv", "python": None, "requirements": [], "lock": True}


def test_a_model_without_requirements_is_refused(tmp_path: Path):
    with pytest.raises(NotConvertible) as error:
        wanted(tmp_path, requirements__txt="# nothing")

    assert error.value.message == (
        "the model names no requirements, so there is nothing to build its environment from; log it with "
        "pip_requirements, or deploy it with -C env=local or -C env=/path/to/python"
    )


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("python_env__yaml", "dependencies:\n- -r ../../requirements.txt", "../../requirements.txt is outside of the"),
        ("python_env__yaml", "dependencies:\n- -r missing.txt", "[Errno 2] No such file or directory"),
        ("python_env__yaml", "a: [", "while parsing a flow node"),
        ("python_env__yaml", "just text", "'str' object has no attribute 'get'"),
    ],
)
def test_files_that_cannot_be_read_are_told(tmp_path: Path, file: str, text: str, reason: str):
    with pytest.raises(NotConvertible) as error:
        wanted(tmp_path, **{file: text})

    assert error.value.message.startswith(f"the requirements of the model can't be read: {reason}")
