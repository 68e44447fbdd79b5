"""
The steps that build an environment, with uv, in a folder that becomes the environment.

Theory of operation. The environment is moved after it was built, so it is a relocatable one. Once packages are in it,
its interpreter isn't started any more here: a package may have code that every start of it runs, and this process
has logins of package indexes, which are not for packages. So what is in it is found by looking at its files.

With a uv.lock, uv only lists the packages and hashes that it names. They are installed like others, from the package
index of the engine, wherever the lock says that they come from.

Invariant: the folder is an environment when `build` returns. When it raises, it is of no use.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redisai_engine.environments.failures import explain
from redisai_engine.environments.requirements import Requirements, read_requirements
from redisai_engine.environments.uv import Uv, UvFailed
from redisai_engine.environments.variables import NO_INDEX
from redisai_engine.environments.wanted import WantedEnvironment
from redisai_engine.errors import EnvironmentFailure

#: What the program that serves a model imports, and the package that brings it.
_NEEDED = ("mlflow", "numpy")
_ENVIRONMENT, _WORK = "environment", "work"


@dataclass(frozen=True, slots=True)
class Built:
    """What was built: where it is, the version of its Python, and the lines that were installed."""

    folder: Path
    python: str
    requirements: tuple[str, ...]


def build(uv: Uv, wanted: WantedEnvironment, folder: Path, *, source_builds: bool) -> Built:
    """Build an environment in an empty folder. Raise EnvironmentFailure that says what is missing."""
    environment, work = folder / _ENVIRONMENT, folder / _WORK
    work.mkdir()
    python = wanted.python
    try:
        found = _find_python(uv, wanted, work)
        uv.run("venv", "--quiet", "--no-project", "--relocatable", "--python", found, str(environment), folder=work)
        python = _version(environment) or python
        requirements = wanted.requirements if wanted.locked is None else _unlocked(uv, wanted.locked, work)
        options = ["--no-index"] * bool(uv.variables.get(NO_INDEX))
        options += [] if source_builds else ["--only-binary", ":all:"]
        options += ["--require-hashes"] * requirements.hashed
        options += ["--no-deps"] * (wanted.locked is not None)
        _install(uv, environment, requirements, options, work)
    except UvFailed as error:
        raise EnvironmentFailure(explain(str(error), python, wanted.minor_python)) from None
    for package in _NEEDED:
        if not any(environment.glob(f"lib/python*/site-packages/{package}/")):
            raise EnvironmentFailure(f"its requirements don't bring {package}: add it to the model's requirements")
    return Built(environment, python, requirements.lines)


def _find_python(uv: Uv, wanted: WantedEnvironment, work: Path) -> str:
    """Return the path of a Python on this machine. Or, if it has none, the version, which uv may download."""
    for version in dict.fromkeys((wanted.python, wanted.minor_python)):
        find = ("python", "find", "--no-project", "--system", "--no-python-downloads", version)
        with contextlib.suppress(UvFailed):
            path = uv.output(*find, folder=work).strip()
            is_other = version != wanted.python
            uv.told(f"Python {wanted.python} {'is not on this machine, so this is used' if is_other else 'is'}: {path}")
            return path
    return wanted.python


def _version(environment: Path) -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^version_info = ([\d.]+)", (environment / "pyvenv.cfg").read_text(), re.MULTILINE)
        return found[1] if found else ""
    return ""


def _unlocked(uv: Uv, locked: Mapping[str, bytes], work: Path) -> Requirements:
    """Return what a uv.lock names. Raise UvFailed, and EnvironmentFailure for packages from elsewhere than an index."""
    project = work / "project"
    project.mkdir()
    for name, content in locked.items():
        (project / name).write_bytes(content)
    text = uv.output(*_EXPORT, folder=project)
    return read_requirements(text.replace("\\\n", " ").splitlines())


_EXPORT = (
    *("export", "--frozen", "--offline", "--no-config", "--no-python-downloads", "--format", "requirements-txt"),
    *("--no-dev", "--no-emit-project", "--no-header", "--no-annotate"),
)


def _install(uv: Uv, environment: Path, requirements: Requirements, options: list[str], work: Path) -> None:
    for option in requirements.left_out:
        uv.told(f"left out: {option}; the engine's own package index is used")
    lines = work / "requirements.txt"
    lines.write_text("".join(f"{line}\n" for line in requirements.lines))
    python = str(environment / "bin" / "python")
    uv.run("pip", "install", "--python", python, *options, "--requirements", str(lines), folder=work)
