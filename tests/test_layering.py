"""
The import rules of docs/internals.md, kept by reading the source and by importing it in fresh processes.

The engine never imports MLflow; the plugin imports of the engine only its protocol and its codec; neither of these does
I/O; a framework is imported only inside the function that first needs it; predicting loads nothing of what deploys.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlflow_redisai
from support.saved_models import save_multiplication
from support.servers import Server

SOURCE = Path(__file__).parent.parent / "src"
MODULES = sorted(SOURCE.rglob("*.py"))

FRAMEWORKS = {
    "ai_edge_litert",
    "catboost",
    "keras",
    "lightgbm",
    "onnx",
    "onnxmltools",
    "onnxruntime",
    "scipy",
    "sentence_transformers",
    "skl2onnx",
    "sklearn",
    "tensorflow",
    "tf2onnx",
    "tflite_runtime",
    "tokenizers",
    "torch",
    "transformers",
    "xgboost",
}
INPUT_OUTPUT = {
    "asyncio",
    "hiredis",
    "http",
    "os",
    "pathlib",
    "redis",
    "select",
    "selectors",
    "socket",
    "ssl",
    "uvloop",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path, *, at_import_time: bool = False) -> set[str]:
    """Full names of what a module imports; `at_import_time` leaves out functions' bodies and TYPE_CHECKING blocks."""
    tree = ast.parse(path.read_text())
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names = set()
    for node in _nodes(tree, at_import_time=at_import_time):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


def _nodes(node: ast.AST, *, at_import_time: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if at_import_time and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if at_import_time and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _nodes(child, at_import_time=at_import_time)


def top(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def test_there_is_source_to_check() -> None:
    """An empty list of modules would let every rule below pass."""
    assert {top(module_name(path)) for path in MODULES} == {"mlflow_redisai", "redisai_engine"}


def test_the_engine_never_imports_the_plugin() -> None:
    """`mlflow` itself may be named by no module of the engine, not even inside a function."""
    offenders = {
        module_name(path): names
        for path in MODULES
        if top(module_name(path)) == "redisai_engine"
        and (names := {name for name in imported_names(path) if top(name) in {"mlflow", "mlflow_redisai"}})
    }

    assert offenders == {}


def test_the_plugin_imports_of_the_engine_only_its_protocol_and_its_codec() -> None:
    offenders = {
        module_name(path): names
        for path in MODULES
        if top(module_name(path)) == "mlflow_redisai"
        and (
            names := {
                name
                for name in imported_names(path)
                if top(name) == "redisai_engine"
                and not (name + ".").startswith(("redisai_engine.protocol.", "redisai_engine.codec."))
            }
        )
    }

    assert offenders == {}


@pytest.mark.parametrize(
    ("package", "allowed", "frameworks"),
    [
        ("protocol", ("redisai_engine.protocol.",), set()),
        ("codec", ("redisai_engine.codec.", "redisai_engine.protocol."), {"onnx", "tokenizers"}),
    ],
)
def test_protocol_and_codec_name_no_module_that_does_io(
    package: str, allowed: tuple[str, ...], frameworks: set[str]
) -> None:
    """Bytes or values in, bytes or values out: neither opens a socket or a file, and both know little of the engine."""
    forbidden = (INPUT_OUTPUT | FRAMEWORKS | {"click", "mlflow"}) - frameworks
    offenders = {}
    for path in MODULES:
        if (module_name(path) + ".").startswith(f"redisai_engine.{package}."):
            names = imported_names(path)
            bad = {name for name in names if top(name) in forbidden}
            bad |= {name for name in names if top(name) == "redisai_engine" and not (name + ".").startswith(allowed)}
            if bad or calls_open(path):
                offenders[module_name(path)] = bad

    assert offenders == {}


def calls_open(path: Path) -> bool:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return any(isinstance(function, ast.Name) and function.id == "open" for function in calls)


def test_frameworks_are_imported_only_inside_functions() -> None:
    """So that importing the plugin or the engine stays cheap, and a missing framework hurts only those who need it."""
    offenders = {
        module_name(path): names
        for path in MODULES
        if (names := {name for name in imported_names(path, at_import_time=True) if top(name) in FRAMEWORKS})
    }

    assert offenders == {}


def modules_after(program: str, *arguments: str) -> set[str]:
    """The full names of all modules in a fresh interpreter after `program`."""
    program += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(result.stdout.splitlines()[-1]))


def loaded_after(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter after `statement`."""
    return {top(name) for name in modules_after(statement)}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("redisai_engine.protocol.tensor", {"mlflow", "redis", "asyncio", "socket"} | FRAMEWORKS),
        ("redisai_engine.codec.prediction", {"mlflow", "click", "pandas", "redis", "asyncio", "socket"} | FRAMEWORKS),
        ("redisai_engine.cli", {"mlflow", "pandas"} | FRAMEWORKS),
    ],
)
def test_importing_a_module_loads_none_of_what_its_layer_must_not_have(module: str, forbidden: set[str]) -> None:
    """What the source says, seen from outside: also through modules in between."""
    assert loaded_after(f"import {module}") & forbidden == set()


def test_the_plugin_adds_no_framework_to_what_mlflow_loads() -> None:
    """MLflow imports the plugin for every `mlflow deployments` command."""
    added = loaded_after("import mlflow_redisai") - loaded_after("import mlflow.deployments, mlflow.exceptions")

    assert added & FRAMEWORKS == set()


DEPLOYING = ("mlflow_redisai.deploy.", "mlflow_redisai.models.")

PREDICT = """
import sys
import numpy as np
from mlflow_redisai import RedisAIClient

target, name = sys.argv[1:]
answer = RedisAIClient(target).predict(name, np.array([[1, 2]], np.float32))["predictions"]
assert answer["y"].tolist() == [[2, 4]], answer
"""


def deploying_side(modules: set[str]) -> set[str]:
    return {name for name in modules if f"{name}.".startswith(DEPLOYING)}


def test_importing_the_predictor_loads_nothing_of_what_deploys() -> None:
    """A process that only predicts pays for no converter."""
    assert deploying_side(modules_after("import mlflow_redisai.predict.predictor")) == set()


def test_a_prediction_with_a_record_loads_nothing_of_what_deploys(engine: Server, tmp_path: Path) -> None:
    mlflow_redisai.RedisAIClient(engine.target).create_deployment(
        "layers:model", save_multiplication(tmp_path / "m", 2.0).uri
    )

    modules = modules_after(PREDICT, engine.target, "layers:model")

    assert "mlflow_redisai.predict.predictor" in modules
    assert deploying_side(modules) == set()
