"""
Runs a client's program (a file of `check_...` functions) in the client's own environment, all checks in one process.

Each check is one test. Its outcome is one line of JSON. The programs import nothing of the tests, because the client's
environment doesn't have it. `programs/run_checks.py` is what runs there.
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
PROGRAM_S = 150.0  # with the first model of a kind, the engine imports its framework


@dataclass(frozen=True)
class Outcomes:
    """The outcome of each check, "" for a pass and otherwise the reason; and which checks were left out, and why."""

    failures: Mapping[str, str]
    skipped: Mapping[str, str]
    errors: str

    def report(self, check: str) -> None:
        """Pass, fail or skip the current test as the check did."""
        if check in self.skipped:
            pytest.skip(self.skipped[check])
        failure = self.failures.get(check, f"the program ended before this check:\n{self.errors}")
        assert not failure, failure


def checks_of(program: str) -> list[str]:
    """Return the names of a program's checks, without running it."""
    tree = ast.parse((PROGRAMS / f"{program}.py").read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")]


def run_program(python: Path, program: str, server: Mapping[str, object]) -> Outcomes:
    """Run all checks of a program. `server` is what they are told about the server and the models."""
    # -I: neither the tests' folder nor environment variables give the client other packages.
    command = [str(python), "-I", str(PROGRAMS / "run_checks.py"), str(PROGRAMS / f"{program}.py"), json.dumps(server)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
        output, errors = done.stdout, done.stderr
    except subprocess.TimeoutExpired as timeout:
        output, errors = (timeout.stdout or b"").decode(), f"it took more than {PROGRAM_S:.0f} s"
    return outcomes_of(output, errors)


def outcomes_of(output: str, errors: str) -> Outcomes:
    """Read the output of a program: one line of JSON for each check."""
    reports = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return Outcomes(
        {report["check"]: report["failure"] for report in reports},
        {report["check"]: report["skipped"] for report in reports if report["skipped"]},
        errors,
    )
