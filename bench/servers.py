"""
The servers that are measured, each started as a user starts it, and the model that all of them serve.

Everything lives in the folder given; leaving the `with` block ends the processes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

START_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command with its output in a log; SIGTERM to its whole group at the end, SIGKILL if that is not enough."""
    # MLflow starts uvicorn by its name, so this interpreter's folder comes first.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, env={**os.environ, "PATH": path}
        )
    try:
        yield started
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(15)
        started.wait()


@contextlib.contextmanager
def engine(folder: Path, *arguments: str) -> Iterator[tuple[int, int]]:
    """The engine with a redis-server of its own: (port, process id)."""
    log = folder / "engine.log"
    command = [sys.executable, "-u", "-m", "redisai_engine", "--port", "0", "--data-dir", str(folder / "data")]
    with process([*command, *arguments], log) as started:
        line = _wait(started, log, lambda: next(iter(_ready_lines(log)), None))
        yield int(line.rpartition(":")[2]), started.pid


def _ready_lines(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith("ready: ")]


@contextlib.contextmanager
def mlflow_serve(folder: Path, model_uri: str, *, workers: int = 1) -> Iterator[tuple[int, int]]:
    """`mlflow models serve` in this environment: (port, process id)."""
    port = free_port()
    log = folder / "mlflow.log"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model_uri, "-p", str(port)]
    command += ["--env-manager", "local", "--workers", str(workers)]
    with process(command, log) as started:
        _wait(started, log, lambda: _pings(port))
        yield port, started.pid


def _pings(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _wait(started, log, condition):  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + START_S
    while not (found := condition()):
        if started.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"a server did not start ({started.args}):\n{log.read_text()[-2000:]}")
        time.sleep(0.1)
    return found


def resident_mb(pid: int) -> dict[str, float]:
    """Resident memory of a process and of all it has started, in megabytes (10**6 bytes), by command name and id."""
    found = {}
    for number in [pid, *_descendants(pid)]:
        status = Path(f"/proc/{number}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        found[f"{fields['Name'].strip()} {number}"] = round(int(fields["VmRSS"].split()[0]) * 1024 / 1e6, 1)
    return found


def _descendants(pid: int) -> list[int]:
    children = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        children += [int(number) for number in path.read_text().split()]
    return [*children, *(below for child in children for below in _descendants(child))]
