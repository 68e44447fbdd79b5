"""
Runs the checks of one client's program, in the client's own environment, and prints one line of JSON for each.

A program has `connect(server)`, which returns a client of an empty database, and functions `check_...` that take this
client and the server.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


class Absent(Exception):
    """Something that a check needs is missing. The message says what."""


class Server:
    """What a check may know: the server's address, and files of models that it can store."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.host: str = told["host"]
        self.port: int = told["port"]
        self.protocol: int = told["protocol"]
        self._models: dict[str, dict[str, Any]] = told["models"]

    def model(self, backend: str) -> bytes:
        """Return a model with two FLOAT inputs a and b, and two outputs, a*b and a+b."""
        return Path(self.model_file(backend)).read_bytes()

    def model_file(self, backend: str) -> str:
        if backend not in self._models:
            self.lacks(f"the engine's environment has no package for {backend}")
        return str(self._models[backend]["file"])

    def lacks(self, reason: str) -> None:
        """End the check, which can't be made here."""
        raise Absent(reason)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def outcome(program: ModuleType, check: Callable[[Any, Server], None], server: Server) -> dict[str, str]:
    report = {"check": check.__name__, "failure": "", "skipped": ""}
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # nothing else may appear among the lines of JSON
            check(program.connect(server), server)
    except Absent as absent:
        report["skipped"] = str(absent)
    except Exception:
        report["failure"] = traceback.format_exc()
    return report


def main() -> None:
    program = load(Path(sys.argv[1]))
    server = Server(json.loads(sys.argv[2]))
    for name, check in list(vars(program).items()):
        if name.startswith("check_"):
            print(json.dumps(outcome(program, check, server)), flush=True)


if __name__ == "__main__":
    main()
