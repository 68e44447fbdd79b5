"""scripts/demo, as its environment runs it: it plays to the end, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import accepts_connections, wait_until

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # about ten `mlflow` processes in sequence


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """The folder that the demo uses for temporary files."""
    folder = tmp_path / "t"
    folder.mkdir()
    yield folder
    for pid_file in folder.glob("*/data/engine.pid"):
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
    shutil.rmtree(folder)


def start(temporary: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo in its own process group, as a shell does, so that Ctrl-C reaches all of it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "demo.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "PATH": path},
        start_new_session=True,
    )


def test_the_demo_shows_equal_predictions_and_leaves_nothing(temporary: Path) -> None:
    demo = start(temporary)

    output, _ = demo.communicate()

    assert demo.returncode == 0, output
    assert output.endswith("Done: every prediction, from the command line and from Python, equals mlflow.pyfunc's.\n")
    assert output.count("178 of 178 predictions") == 3
    for command in ("run-local", "get", "predict", "update", "list", "delete"):
        assert f"$ mlflow deployments {command} " in output
    assert list(temporary.glob("mlflow-redisai-*")) == []
    assert not accepts_connections(port_in(output))


def test_with_keep_the_server_stays_until_the_told_command(temporary: Path) -> None:
    demo = start(temporary, "--keep")

    output, _ = demo.communicate()

    assert demo.returncode == 0, output
    assert accepts_connections(port_in(output))
    stop = re.search(r"Stop it with: (kill \d+)", output)
    assert stop
    subprocess.run(stop[1].split(), check=True)
    wait_until(lambda: not accepts_connections(port_in(output)), what="the server's end")
    for pid_file in temporary.glob("*/data/engine.pid"):
        pid_file.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_demo_leaves_neither_server_nor_files(number: signal.Signals, temporary: Path) -> None:
    demo = start(temporary)
    assert demo.stdout is not None
    output = ""
    while "$ mlflow deployments get" not in output:
        line = demo.stdout.readline()
        assert line, output
        output += line

    os.killpg(demo.pid, number)
    output += demo.communicate()[0]

    assert demo.returncode != 0
    assert list(temporary.glob("mlflow-redisai-*")) == []
    assert not accepts_connections(port_in(output))


def port_in(output: str) -> int:
    found = re.search(r"wine runs on redisai://127\.0\.0\.1:(\d+)/0", output)
    assert found, output
    return int(found[1])
