"""
Which environment a model wants: a Python version and packages, or what its uv.lock says. And its name, which follows
from that.

Invariant: the same wish has the same name on the same kind of machine, whoever asks, and a different one has another.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redisai_engine.environments.requirements import Requirements, read_requirements
from redisai_engine.errors import EnvironmentFailure

LOCK, PROJECT = "uv.lock", "pyproject.toml"
LEAST_PYTHON = (3, 9)

#: Part of every name. To be raised when environments are built differently, so that older ones aren't used any more.
_FORMAT = 1
_LONGEST_FILE = 16 * 2**20
_NAME_DIGITS = 24
_VERSION = re.compile(r"3\.(\d{1,2})(\.\d{1,3})?")


@dataclass(frozen=True, slots=True)
class WantedEnvironment:
    """`python` is "3.11" or "3.11.4". With `locked`, the contents of uv.lock and pyproject.toml, these decide."""

    python: str
    requirements: Requirements
    locked: Mapping[str, bytes] | None = None

    @property
    def minor_python(self) -> str:
        return ".".join(self.python.split(".")[:2])

    def name(self) -> str:
        """Return a name for a folder, such as 3.11.4-0123456789ab."""
        packages: Any = self.requirements.lines
        if self.locked is not None:
            packages = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(self.locked.items())}
        machine = [sysconfig.get_platform(), platform.libc_ver()[0], sys.implementation.name]
        wish = json.dumps([_FORMAT, self.python, packages, machine])
        return f"{self.python}-{hashlib.sha256(wish.encode()).hexdigest()[:_NAME_DIGITS]}"


def read_wanted(wanted: Mapping[str, Any], files: Mapping[str, bytes]) -> WantedEnvironment:
    """
    Read what a model's redisai.json says of an environment of the kind "uv".

    Without a Python version, it is the engine's own. Raise EnvironmentFailure that names what is wrong.
    """
    python = _python(wanted.get("python"))
    if wanted.get("lock"):
        return WantedEnvironment(python, Requirements(()), _locked(files))
    lines = wanted.get("requirements")
    if not isinstance(lines, (list, tuple)):
        raise EnvironmentFailure("its requirements aren't a list of texts")
    return WantedEnvironment(python, read_requirements(lines))


def _python(version: object) -> str:
    if version is None:
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    found = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if found is None or (3, int(found[1])) < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        raise EnvironmentFailure(f"its Python version {str(version)[:40]!r} isn't a number from {least} on, as 3.11.4")
    return found[0]


def _locked(files: Mapping[str, bytes]) -> dict[str, bytes]:
    locked = {}
    for name in (LOCK, PROJECT):
        if name not in files:
            raise EnvironmentFailure(f"its environment is locked, but the model lacks the file {name}")
        if len(files[name]) > _LONGEST_FILE:
            raise EnvironmentFailure(f"the model's {name} has more than {_LONGEST_FILE} bytes")
        locked[name] = bytes(files[name])
    return locked
