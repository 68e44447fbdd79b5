"""Backends are found by name and loaded on first use, and the error for a missing framework names its cure."""

from __future__ import annotations

import subprocess
import sys

import pytest

from redisai_engine.backends import registry

IMPORTS = """
import sys
from redisai_engine.backends import registry
import redisai_engine.execution.executor
frameworks = {"onnxruntime", "torch", "tensorflow", "ai_edge_litert"}
assert not frameworks & set(sys.modules), frameworks & set(sys.modules)
assert registry.loaded_versions() == {}
registry.backend("ONNX")
assert frameworks & set(sys.modules) == {"onnxruntime"}
print(*registry.loaded_versions())
"""


def test_a_framework_is_imported_when_its_backend_is_first_asked_for() -> None:
    result = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)

    assert result.stdout == "ONNX\n"


def test_a_backend_is_made_once() -> None:
    assert registry.backend("ONNX") is registry.backend("ONNX")


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("TORCH", "torch", "mlflow-redisai[torch]"),
        ("TF", "tensorflow", "mlflow-redisai[tensorflow]"),
        ("TFLITE", "ai_edge_litert", "mlflow-redisai[tflite]"),
    ],
)
def test_a_missing_framework_names_the_pip_command(name: str, module: str, package: str) -> None:
    """Runs in a process where the import system reports the framework as missing."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from redisai_engine.backends import registry\n"
        f"try: registry.backend({name!r})\n"
        "except Exception as error: print(error.wire)"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout == f"ERR Could not load backend: {name} needs {package}: pip install '{package}'\n"


def test_an_unknown_name_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        registry.backend("PMML")
