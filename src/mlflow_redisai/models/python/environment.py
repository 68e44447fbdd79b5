"""
The environment of a Python model, as redisai.json names it: the engine's own, one that uv builds, or a given Python.

Nothing is built here. What is needed is read from the files that MLflow logs beside a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mlflow_redisai.errors import NotConvertible, first_line

LOCAL, UV = "local", "uv"

_LOCKED = ("uv.lock", "pyproject.toml")
_VERSION = re.compile(r"\d+(?:\.\d+){0,2}")


def environment(name: str, folder: Path, what: str) -> dict[str, Any]:
    """
    Return the environment that the option env=`name` means for the model in a folder.

    Raise NotConvertible if env=uv has nothing to go by. `what` names the model in errors.
    """
    if name == LOCAL:
        return {"kind": LOCAL}
    if name != UV:
        return {"kind": "path", "path": name}
    try:
        version, requirements = _logged(folder)
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise NotConvertible(f"the requirements of {what} can't be read: {first_line(error)}") from error
    lock = all((folder / file).is_file() for file in _LOCKED)
    if not requirements and not lock:
        raise NotConvertible(
            f"{what} names no requirements, so there is nothing to build its environment from; log it with "
            "pip_requirements, or deploy it with -C env=local or -C env=/path/to/python"
        )
    return {"kind": UV, "python": version, "requirements": requirements, "lock": lock}


def _logged(folder: Path) -> tuple[str | None, list[str]]:
    """Return the version of Python and the requirements that MLflow has logged: since 2.0, or before that for conda."""
    python_env, conda = folder / "python_env.yaml", folder / "conda.yaml"
    if python_env.is_file():
        document = yaml.safe_load(python_env.read_text()) or {}
        lines = [str(line) for line in document.get("dependencies") or []]
        return _version(document.get("python")), list(_requirements(lines, folder))
    if (folder / "requirements.txt").is_file():
        return None, list(_requirements(["-r requirements.txt"], folder))
    return _of_conda(yaml.safe_load(conda.read_text()) or {}, folder) if conda.is_file() else (None, [])


def _of_conda(document: dict[str, Any], folder: Path) -> tuple[str | None, list[str]]:
    parts = document.get("dependencies") or []
    lines = [str(line) for part in parts if isinstance(part, dict) for line in part.get("pip") or []]
    named = (part.partition("=")[2].strip("=") for part in parts if str(part).startswith("python="))
    return _version(next(named, None)), list(_requirements(lines, folder))


def _version(found: Any) -> str | None:
    # Unquoted in YAML, 3.10 is the number 3.1: MLflow quotes it.
    return str(found) if found is not None and _VERSION.fullmatch(str(found)) else None


def _requirements(lines: list[str], folder: Path) -> Iterator[str]:
    """Yield the requirements in lines of a requirements file, and in the files that they include."""
    for line in lines:
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        option, _, rest = text.partition(" ")
        if option in ("-r", "--requirement"):
            included = (folder / rest.strip()).resolve()
            if not included.is_relative_to(folder.resolve()):
                raise ValueError(f"{rest.strip()} is outside of the model's folder")
            yield from _requirements(included.read_text().splitlines(), folder)
        # Other options say where packages come from: the machine that builds the environment knows.
        elif text and not text.startswith("-"):
            yield text
