"""
Every block of README.md is run, in order, in one folder, and its output is compared with what the README shows.

Ports, process ids and temporary folders differ from run to run and are compared as `N` and `PATH`. Ports are replaced
by free ones: 6379 stands for the port of this test's server. A line `...` stands for further output.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.waiting import free_port, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Block:
    language: str
    lines: tuple[str, ...]

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Return the commands of a console block, each with the output shown for it."""
        shown: list[str] = []
        command = ""
        for line in (*self.lines, "$ "):
            if line.startswith("$ "):
                if command:
                    yield command, shown
                command, shown = line.removeprefix("$ "), []
            else:
                shown.append(line)


def blocks() -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    return [Block(language, tuple(body.splitlines())) for language, body in found]


class Reader:
    """A reader who does what the README says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.second_port = free_port(), free_port()
        self.running: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "REDIS_PORT": str(self.port),
            "TMPDIR": str(folder),
        }
        shutil.copytree(ROOT / "examples", folder / "examples")

    def own_ports(self, text: str) -> str:
        return text.replace("6379", str(self.port)).replace("6380", str(self.second_port))

    def run(self, command: str) -> str:
        if command.startswith("mlflow deployments run-local"):
            command += f" -C port={self.port}"
        result = subprocess.run(
            ["bash", "-c", self.own_ports(command)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert result.returncode == 0, f"$ {command}\n{result.stdout}{result.stderr}"
        return result.stdout

    def run_in_background(self, command: str, lines: int) -> str:
        """Start a server and return its first lines."""
        started = subprocess.Popen(
            self.own_ports(command).split(), cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        self.running.append(started)
        assert started.stdout is not None
        return "".join(started.stdout.readline() for _ in range(lines))

    def leave(self) -> None:
        """Stop what was started, with the commands that were shown for it."""
        for server in self.running:
            server.terminate()
            server.wait(30)
            assert server.stdout is not None
            server.stdout.close()
        for pid_file in self.folder.glob("*/engine.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid_file.read_text()), signal.SIGTERM)
                wait_until(lambda path=pid_file: not _runs(int(path.read_text())), what="the engine's end")  # type: ignore[misc]


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"\0redisai_engine\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def comparable(text: str) -> str:
    text = re.sub(r"/\S*mlflow-redisai-wine-\w+", "PATH", text)
    text = re.sub(r"(?<=127\.0\.0\.1:)\d+", "N", text)
    return re.sub(r"(process|kill) \d+", r"\1 N", text).strip()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    somebody = Reader(tmp_path)
    yield somebody
    somebody.leave()


@pytest.mark.timeout(900)  # about ten `mlflow` processes in sequence
def test_every_block_of_the_readme_does_what_it_shows(reader: Reader) -> None:
    """In order, as a reader would run them: later blocks use the server that an earlier one starts."""
    ran = []
    for block in blocks():
        if block.language == "python":
            (reader.folder / "block.py").write_text(reader.own_ports("\n".join(block.lines)))
            expected = [line.removeprefix("# ") for line in block.lines if line.startswith("# ")]
            assert reader.run("python block.py").splitlines() == expected
            ran.append("python")
        for command, shown in block.commands() if block.language == "console" else ():
            ran.append(command.split()[0])
            if command.startswith("git clone"):
                assert_clones(command, reader.folder)
                continue
            if command.startswith("pip install"):
                assert_installs(command)
                continue
            if command.startswith("redisai-engine"):
                output = reader.run_in_background(command, len(shown))
            else:
                output = reader.run(command)
            expected_text = comparable("\n".join(shown))
            if expected_text.endswith("\n..."):
                expected_text = expected_text.removesuffix("...")
                assert comparable(output).startswith(expected_text)
            else:
                assert comparable(output) == expected_text, command

    assert {"git", "pip", "python", "mlflow", "redisai-engine"} <= set(ran)
    assert {block.language for block in blocks()} == {"console", "python"}


def assert_clones(command: str, folder: Path) -> None:
    """Check that the clone of this repository has what the next command needs. Only the placeholder is made up."""
    own = command.replace("<URL of this repository>", str(ROOT))

    subprocess.run(["bash", "-c", f"{own} && test -f pyproject.toml"], cwd=folder, check=True, capture_output=True)


def assert_installs(command: str) -> None:
    """
    Check that the named extra exists, and that this environment, which was made with it, has everything it requires.
    """
    found = re.fullmatch(r"pip install '\.\[(\w+)\]'", command)
    assert found, command
    assert found[1] in importlib.metadata.metadata("mlflow-redisai").get_all("Provides-Extra", [])
