"""
The import rules of docs/architecture.md, checked by reading the source and by importing it in fresh processes.

The engine never imports MLflow. The plugin imports only the engine's protocol and codec, and neither of these does I/O.
A framework is imported only inside the function that first needs it. Predicting loads nothing of what deploys. Modules
and folders have no circular imports, and no folder has too many modules to find one by guessing.
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
    """
    Return the full names that a module imports.

    `at_import_time` excludes functions' bodies and TYPE_CHECKING blocks.
    """
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
    """With an empty list of modules, every rule below would pass."""
    assert {top(module_name(path)) for path in MODULES} == {"mlflow_redisai", "redisai_engine"}


def test_the_engine_never_imports_the_plugin() -> None:
    """No module of the engine may name `mlflow` itself, not even inside a function. Its workers load it by name."""
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
    """Bytes or values in, bytes or values out. Neither opens a socket or a file, and both know little of the engine."""
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
    """So importing the plugin or the engine is cheap, and a missing framework matters only to those who need it."""
    offenders = {
        module_name(path): names
        for path in MODULES
        if (names := {name for name in imported_names(path, at_import_time=True) if top(name) in FRAMEWORKS})
    }

    assert offenders == {}


# -- circles and arrows ----------------------------------------------------------------------------

NAMES = {module_name(path) for path in MODULES}
PACKAGES = {module_name(path) for path in MODULES if path.name == "__init__.py"}
MOST_MODULES = 12  # per folder, besides __init__

# The folders of the engine, and which others each may import: the arrows of docs/architecture.md. A module that is in
# no list may be imported by all.
ARROWS = {
    "protocol": set(),
    "protocol.parcels": set(),
    "settings": {"protocol"},
    "codec": {"protocol", "protocol.parcels"},
    "backends": {"protocol"},
    "backends.deadly": {"backends"},
    "redis": {"protocol"},
    "environments": set(),
    "tracing": set(),
    "execution": {"backends", "protocol"},
    "execution.hosts": {"backends", "backends.deadly", "protocol"},
    "execution.hosts.sharing": {"execution.hosts", "backends", "protocol"},
    "execution.hosts.python": {"execution.hosts", "backends", "protocol"},
    "service.memory": {"redis", "protocol"},
    "service": {
        "service.memory",
        "environments",
        "execution",
        "execution.hosts",
        "execution.hosts.python",
        "execution.hosts.sharing",
        "backends",
        "redis",
        "protocol",
        "tracing",
    },
    "commands": {"service", "execution", "backends", "redis", "protocol"},
    "commands.grammar": {"backends", "protocol"},
    "commands.ai": {
        "commands",
        "commands.grammar",
        "service",
        "execution",
        "backends",
        "redis",
        "protocol",
        "tracing",
    },
    "commands.short": {
        "commands",
        "commands.grammar",
        "commands.ai",
        "service",
        "service.memory",
        "execution",
        "redis",
        "protocol",
    },
    "commands.plain": {
        "settings",
        "commands",
        "commands.grammar",
        "commands.ai",
        "service",
        "backends",
        "redis",
        "protocol",
    },
    "watching": {"codec", "commands", "commands.ai", "service", "execution", "backends", "redis", "protocol"},
    "fronts": set(),
    "fronts.resp": {
        "fronts",
        "commands",
        "commands.ai",
        "commands.short",
        "commands.plain",
        "service",
        "redis",
        "protocol",
    },
    "fronts.http.access": {
        "commands",
        "commands.ai",
        "service",
        "execution",
        "backends",
        "redis",
        "codec",
        "protocol",
        "tracing",
    },
    "fronts.http.v2": {
        "fronts.http.access",
        "commands",
        "commands.ai",
        "execution",
        "backends",
        "redis",
        "codec",
        "protocol",
    },
    "fronts.http.scoring": {
        "fronts.http.access",
        "commands",
        "commands.ai",
        "execution",
        "execution.hosts",
        "redis",
        "codec",
        "protocol",
        "protocol.parcels",
    },
    "fronts.http": {
        "fronts",
        "fronts.http.access",
        "fronts.http.v2",
        "fronts.http.scoring",
        "fronts.http.live",
        "tracing",
        "watching",
        "service",
        "protocol",
    },
    "fronts.http.live": {
        "fronts.http.access",
        "watching",
        "commands",
        "commands.ai",
        "service",
        "execution",
        "redis",
        "codec",
        "protocol",
    },
    "process": {
        "fronts",
        "fronts.resp",
        "fronts.http",
        "fronts.http.access",
        "watching",
        "service",
        "service.memory",
        "execution",
        "redis",
        "protocol",
    },
}
#: Modules next to the folders that import none of them.
FOUNDATION = {"errors", "config", "children", "folders", "certificates", "keepalive", "processors", "users", "weight"}


def modules_imported_by(path: Path) -> set[str]:
    """
    Return the project's modules that a module imports, type-only imports included.

    A package stands for its `__init__`.
    """
    found = set()
    for name in imported_names(path):
        found |= {name} & NAMES or {name.rpartition(".")[0]} & NAMES
    return found - {module_name(path)}


GRAPH = {module_name(path): modules_imported_by(path) for path in MODULES}


def folder_of(module: str) -> str:
    """Return the folder of a module. A module at the top of a package stands for itself."""
    folder = module if module in PACKAGES else module.rpartition(".")[0]
    return module if "." not in folder else folder


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the sets of nodes that can all be reached from each other."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for node in graph.get(waiting.pop(), set()) - seen:
                seen.add(node)
                waiting.append(node)
        return seen

    reach = {node: reachable(node) for node in graph}
    found = {frozenset(other for other in reach[node] if node in reach.get(other, ())) for node in graph}
    return sorted(sorted(circle) for circle in found if circle)


@pytest.mark.parametrize("package", ["mlflow_redisai", "redisai_engine"])
def test_there_are_no_circles_between_modules(package: str) -> None:
    assert circles({module: imported for module, imported in GRAPH.items() if top(module) == package}) == []


@pytest.mark.parametrize("package", ["mlflow_redisai", "redisai_engine"])
def test_there_are_no_circles_between_folders(package: str) -> None:
    folders: dict[str, set[str]] = {}
    for module, imported in GRAPH.items():
        here = folder_of(module)
        folders.setdefault(here, set()).update(folder_of(other) for other in imported if folder_of(other) != here)

    assert circles({folder: others for folder, others in folders.items() if top(folder) == package}) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("folder", ARROWS)
def test_a_folder_of_the_engine_imports_only_what_is_below_it(folder: str) -> None:
    allowed = {f"redisai_engine.{name}" for name in ARROWS[folder] | FOUNDATION | {folder}}
    offenders = {
        (module, other)
        for module, imported in GRAPH.items()
        if folder_of(module) == f"redisai_engine.{folder}"
        for other in imported
        if folder_of(other) not in allowed
    }

    assert offenders == set()


def test_every_folder_of_the_engine_has_its_arrows() -> None:
    folders = {folder_of(name).removeprefix("redisai_engine.") for name in NAMES if top(name) == "redisai_engine"}

    assert {folder for folder in folders if f"redisai_engine.{folder}" in PACKAGES} == set(ARROWS)


def test_no_folder_is_too_long_to_find_a_file_by_guessing() -> None:
    sizes = {folder: sum(name.rpartition(".")[0] == folder for name in NAMES - PACKAGES) for folder in sorted(PACKAGES)}

    assert {folder: size for folder, size in sizes.items() if size > MOST_MODULES} == {}


# -- what is loaded --------------------------------------------------------------------------------


def modules_after(program: str, *arguments: str) -> set[str]:
    """Return the full names of all modules that a fresh interpreter has loaded after `program`."""
    program += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(result.stdout.splitlines()[-1]))


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `statement`."""
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
    """The same rules as above, seen from outside: this includes what is imported through other modules."""
    assert loaded_after(f"import {module}") & forbidden == set()


@pytest.mark.slow
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
    """A process that only predicts doesn't pay for converters."""
    assert deploying_side(modules_after("import mlflow_redisai.predict.predictor")) == set()


def test_a_prediction_with_a_record_loads_nothing_of_what_deploys(engine: Server, tmp_path: Path) -> None:
    mlflow_redisai.RedisAIClient(engine.target).create_deployment(
        "layers:model", save_multiplication(tmp_path / "m", 2.0).uri
    )

    modules = modules_after(PREDICT, engine.target, "layers:model")

    assert "mlflow_redisai.predict.predictor" in modules
    assert deploying_side(modules) == set()
