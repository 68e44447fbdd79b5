"""A short campaign, with the day as the seed, finds nothing. A longer one is `scripts/fuzz`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import blobs
from fuzz.sessions import SESSIONS

ROOT = Path(__file__).parent.parent.parent
MINUTES = 1  # of exploring; starting frameworks and servers takes about as long

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_the_campaign_finds_no_fault(tmp_path: Path) -> None:
    """What it prints names the input of each fault, and the command that reads it again."""
    command = [sys.executable, "-m", "fuzz", "--minutes", str(MINUTES), "--folder", str(tmp_path)]
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT / "tests"))))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_models_that_once_did_harm_do_none() -> None:
    inputs = [path.read_bytes() for path in sorted(blobs.CORPUS.iterdir())]

    with SESSIONS["blobs"].served() as check:
        for data in inputs:
            check(data)
