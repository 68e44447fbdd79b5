"""
Runs a client's program (a file of `check_...` functions) in the client's own environment, all checks in one process.

Each check is one test: its outcome comes back as a line of JSON. The programs import nothing of the tests, since the
client's environment has nothing of theirs; `programs/run_checks.py` is what runs there.
"""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[1] / "clients" / "programs"
PROGRAM_S = 150.0  # the first model of a kind has the engine import its framework


@dataclass(frozen=True)
class Outcomes:
    """What a program's checks came to: "" is a pass, else why not; what was left out, and why."""

    failures: Mapping[str, str]
    skipped: Mapping[str, str]
    errors: str

    def report(self, check: str) -> None:
        """Passes, fails or skips the present test as the check did."""
        if check in self.skipped:
            pytest.skip(self.skipped[check])
        failure = self.failures.get(check, f"the program ended before this check:\n{self.errors}")
        assert not failure, failure


def checks_of(program: str) -> list[str]:
    """The names of a program's checks, read without running it."""
    tree = ast.parse((PROGRAMS / f"{program}.py").read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")]


def run_program(python: Path, program: str, server: Mapping[str, object]) -> Outcomes:
    """Runs all checks of a program; `server` is what they are told of the server and the models."""
    # -I: neither the folder of the tests nor the variables of the environment give the client other packages.
    command = [str(python), "-I", str(PROGRAMS / "run_checks.py"), str(PROGRAMS / f"{program}.py"), json.dumps(server)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
        output, errors = done.stdout, done.stderr
    except subprocess.TimeoutExpired as timeout:
        output, errors = (timeout.stdout or b"").decode(), f"it took more than {PROGRAM_S:.0f} s"
    return outcomes_of(output, errors)


def outcomes_of(output: str, errors: str) -> Outcomes:
    """Reads what a program printed: a line of JSON for each check."""
    reports = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return Outcomes(
        {report["check"]: report["failure"] for report in reports},
        {report["check"]: report["skipped"] for report in reports if report["skipped"]},
        errors,
    )
