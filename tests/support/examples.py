"""The programs in `examples/`, run as their readers run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.servers import Server

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name: str, engine: Server, tracking_uri: str, folder: Path) -> str:
    """
    Run an example in a process of its own, in a folder, and return what it printed.

    Fail the test if its exit code isn't 0: it is 1 if an answer differs from pyfunc's.
    """
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / name), engine.target],
        env={**os.environ, "MLFLOW_TRACKING_URI": tracking_uri},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
