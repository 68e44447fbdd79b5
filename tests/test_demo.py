"""scripts/demo, as its environment runs it: the story to its end, and nothing left however it ends."""

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
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # some ten `mlflow` processes one after another


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """The folder that the demo takes for temporary files."""
    folder = tmp_path / "t"
    folder.mkdir()
    yield folder
    for pid_file in folder.glob("*/data/engine.pid"):
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
    shutil.rmtree(folder)


def start(temporary: Path, *arguments: str) -> subprocess.Popen[str]:
    """The demo in a process group of its own, as a shell starts it, so that Ctrl-C can be sent to all of it."""
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

    told, _ = demo.communicate()

    assert demo.returncode == 0, told
    assert told.endswith("Done: every prediction, from the command line and from Python, equals mlflow.pyfunc's.\n")
    assert told.count("178 of 178 predictions") == 3
    for command in ("run-local", "get", "predict", "update", "list", "delete"):
        assert f"$ mlflow deployments {command} " in told
    assert list(temporary.glob("mlflow-redisai-*")) == []
    assert not accepts_connections(port_in(told))


def test_with_keep_the_server_stays_until_the_told_command(temporary: Path) -> None:
    demo = start(temporary, "--keep")

    told, _ = demo.communicate()

    assert demo.returncode == 0, told
    assert accepts_connections(port_in(told))
    stop = re.search(r"Stop it with: (kill \d+)", told)
    assert stop
    subprocess.run(stop[1].split(), check=True)
    wait_until(lambda: not accepts_connections(port_in(told)), what="the server's end")
    for pid_file in temporary.glob("*/data/engine.pid"):
        pid_file.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_demo_leaves_neither_server_nor_files(number: signal.Signals, temporary: Path) -> None:
    demo = start(temporary)
    assert demo.stdout is not None
    told = ""
    while "$ mlflow deployments get" not in told:
        line = demo.stdout.readline()
        assert line, told
        told += line

    os.killpg(demo.pid, number)
    told += demo.communicate()[0]

    assert demo.returncode != 0
    assert list(temporary.glob("mlflow-redisai-*")) == []
    assert not accepts_connections(port_in(told))


def port_in(told: str) -> int:
    found = re.search(r"wine runs on redisai://127\.0\.0\.1:(\d+)/0", told)
    assert found, told
    return int(found[1])
