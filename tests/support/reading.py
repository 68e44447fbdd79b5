"""
A reader of a document, who runs the commands of its blocks in one folder, and what is compared with what it shows.

Ports, process ids and temporary folders differ from run to run and are compared as `N` and `PATH`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.waiting import free_port, wait_until

ROOT = Path(__file__).parents[2]
_PORTS = ("6379", "6380", "8080", "9100")  # that documents show


@dataclass(frozen=True)
class Block:
    language: str
    lines: tuple[str, ...]

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Return the commands of a console block, each with the output shown for it."""
        shown: list[str] = []
        command = ""
        for line in (*self.lines, "$ "):
            if command.endswith("\\"):
                command = command.removesuffix("\\") + line.strip()
            elif line.startswith("$ "):
                if command:
                    yield command, shown
                command, shown = line.removeprefix("$ "), []
            else:
                shown.append(line)


def blocks_of(document: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [Block(language, tuple(body.splitlines())) for language, body in found]


class Reader:
    """A reader who does what a document says. Ports that it shows are replaced by free ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {shown: str(free_port()) for shown in _PORTS}
        self.running: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "REDIS_PORT": self.ports["6379"],
            "TMPDIR": str(folder),
        }
        shutil.copytree(ROOT / "examples", folder / "examples")

    def own_ports(self, text: str) -> str:
        return re.sub("|".join(_PORTS), lambda shown: self.ports[shown[0]], text)

    def run(self, command: str) -> str:
        if command.startswith("mlflow deployments run-local"):
            command += f" -C port={self.ports['6379']}"
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


def assert_shown(output: str, shown: list[str], command: str) -> None:
    """Compare what a command prints with what a document shows. A line `...` stands for further output."""
    expected = comparable("\n".join(shown))
    if expected.endswith("\n..."):
        assert comparable(output).startswith(expected.removesuffix("...")), command
    else:
        assert comparable(output) == expected, command
