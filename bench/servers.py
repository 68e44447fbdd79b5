"""
The measured servers, each started as a user would start it, and the resources that their processes use.

Everything is in the given folder. Leaving the `with` block ends the processes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from redisai_engine.redis.embedded import find_server

START_S = 120.0
STOP_S = 15.0
SOCKET = "redis.sock"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a command with its output in a log.

    At the end its whole group gets SIGTERM, and SIGKILL if that is not enough.
    """
    # MLflow and others start servers by name, so the interpreter's folder comes first on the PATH.
    path = f"{Path(command[0]).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as output:
        started = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=folder,
            env={**os.environ, "PATH": path, **(environment or {})},
        )
    try:
        yield started
    finally:
        below = descendants(started.pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(STOP_S)
        started.wait()
        _end(below)


@dataclass(frozen=True)
class Running:
    """A server that responds."""

    port: int
    pid: int
    start_s: float  # from its start to its first answer


@contextlib.contextmanager
def plain_redis(folder: Path, *, on: set[int] | None = None) -> Iterator[Running]:
    """
    Start a redis-server as an engine would, on a port and on a unix socket, without persistence.

    `on` are the processors that it may use.
    """
    port = free_port()
    log = folder / "redis.log"
    options = {"port": port, "unixsocket": folder / SOCKET, "save": "", "appendonly": "no", "dir": folder}
    command = [find_server(), *(str(word) for name, value in options.items() for word in (f"--{name}", value))]
    with process(_pinned(command, on), log) as started:
        yield when_ready(started, log, lambda: port if _answers(port, b"PING\r\n", b"+PONG") else None)


@contextlib.contextmanager
def engine(folder: Path, *arguments: str, redis: Path | None = None, on: set[int] | None = None) -> Iterator[Running]:
    """
    Start the engine with an embedded redis-server, or in front of the one with its unix socket in the folder `redis`.

    `on` are the processors that it may use. It is one process, unless the arguments say otherwise: a scenario compares
    what one processor does.
    """
    folder.mkdir(exist_ok=True)
    log = folder / "engine.log"
    where = ["--data-dir", str(folder / "data")] if redis is None else ["--redis", f"unix://{redis / SOCKET}"]
    workers = [] if "--workers" in arguments else ["--workers", "1"]
    command = [sys.executable, "-u", "-m", "redisai_engine", "--port", "0", *where, *workers, *arguments]
    with process(_pinned(command, on), log) as started:
        yield when_ready(started, log, lambda: port_told(log))


def _pinned(command: list[str], processors: set[int] | None) -> list[str]:
    return command if processors is None else ["taskset", "-c", ",".join(map(str, sorted(processors))), *command]


def port_told(log: Path) -> int | None:
    """Return the port in the engine's ready line, once it has appeared."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("ready: ")]
    return int(lines[0].rpartition(":")[2]) if lines else None


@contextlib.contextmanager
def http_server(
    command: list[str], folder: Path, port: int, path: str, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Start a server that is ready when it answers GET `path` with 200."""
    log = folder / "http.log"
    question = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    with process(command, log, environment, folder) as started:
        yield when_ready(started, log, lambda: port if _answers(port, question, b"HTTP/1.1 200") else None)


def _answers(port: int, question: bytes, answer: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(question)
            return connection.recv(64).startswith(answer)
    except OSError:
        return False


def when_ready(started: subprocess.Popen[bytes], log: Path, port: Callable[[], int | None]) -> Running:
    """Return a server as soon as `port` returns its port. Raise StartFailed if it exits, or takes too long."""
    before = time.perf_counter()
    while (found := port()) is None:
        if started.poll() is not None or time.perf_counter() - before > START_S:
            raise StartFailed(f"a server did not start ({started.args!r}):\n{log.read_text()[-2000:]}")
        time.sleep(0.005)
    return Running(found, started.pid, round(time.perf_counter() - before, 3))


class StartFailed(Exception):
    """A server exited, or didn't respond in time. The text has the end of its log."""


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process and its descendants have used."""
    used = 0
    for number in [pid, *descendants(pid)]:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> dict[str, float]:
    """
    Return the resident memory of a process and its descendants, in megabytes (10**6 bytes), by command name and id.
    """
    found = {}
    for number in [pid, *descendants(pid)]:
        fields = _status(number)
        if "VmRSS" not in fields:
            continue  # it has just exited
        found[f"{fields['Name'].strip()} {number}"] = round(int(fields["VmRSS"].split()[0]) * 1024 / 1e6, 1)
    return found


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _end(pids: list[int]) -> None:
    """End what a server left behind in other process groups, after giving it time to end on its own."""
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.05)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    children = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += [int(number) for number in path.read_text().split()]
    return [*children, *(below for child in children for below in descendants(child))]
