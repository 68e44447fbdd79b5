"""
runtime=embedded: the engine as a separate process, detached from the one that starts it.

The engine is started like any other program (`python -m redisai_engine`), and nothing of it is imported here. Its data
directory also holds its log (`engine.log`), from which the ready line is read, and its process id (`engine.pid`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from mlflow_redisai import deadline, interrupts
from mlflow_redisai.local import ports
from mlflow_redisai.local.errors import BadDataFolder, ServerThere, StartFailed

LOG = "engine.log"
PID = "engine.pid"
LOOK_EVERY_S = 0.02
# Settings of the engine that would make it listen elsewhere, or differently, than the deployment expects.
NOT_INHERITED = {
    f"REDISAI_ENGINE_{name}"
    for name in ("CONFIG", "REDIS", "TLS_CERT", "TLS_KEY", "TLS_CA_CERT_FILE", "TLS_AUTH_CLIENTS", "HTTP_PORT")
}
_HTTP_PACKAGES = ("httptools", "orjson", "starlette", "uvicorn")  # of the extra `http`
STOP_S = 15.0  # how long a discarded server may drain before it is killed


class EmbeddedServer:
    """A running engine. `discard()` also removes the data directory, or what the engine has added to it."""

    def __init__(self, process: subprocess.Popen[bytes], folder: DataFolder) -> None:
        self.process = process
        self.folder = folder
        self.port = 0
        self.http_port: int | None = None

    def describe(self) -> str:
        return f"redisai-engine, process {self.process.pid}"

    def facts(self) -> dict[str, str]:
        http = {} if self.http_port is None else {"http": f"http://{ports.HOST}:{self.http_port}"}
        return {
            **http,
            "stop": f"kill {self.process.pid}",
            "data": str(self.folder.path),
            "log": str(self.folder.path / LOG),
        }

    def leave_running(self) -> None:
        """Wait for the process in a thread, so that it doesn't become a zombie of a long-lived caller when it exits."""
        threading.Thread(target=self.process.wait, name="redisai-engine-reaper", daemon=True).start()

    def discard(self) -> None:
        _end(self.process)
        self.folder.restore()


class DataFolder:
    """The engine's data directory. It is created if needed, and `restore` undoes the changes."""

    def __init__(self, path: str | None, name: str) -> None:
        if path is None:
            self.path = Path(tempfile.mkdtemp(prefix=f"mlflow-redisai-{_file_name(name)}-"))
            self.first_made: Path | None = self.path
            self.found: set[str] = set()
            return
        self.path = Path(path).expanduser().absolute()
        self.first_made = _first_missing(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.found = set(os.listdir(self.path))
            self._refuse_if_in_use()
        except OSError as error:
            raise BadDataFolder(path, error.strerror or str(error)) from error

    def _refuse_if_in_use(self) -> None:
        owner = running_engine(self.path)
        if owner is not None:
            raise ServerThere(f"data_dir={self.path} is used by a running engine, process {owner}", f"kill {owner}")

    def restore(self) -> None:
        """Remove what was created since this object was, and keep what existed earlier."""
        if self.first_made is not None:
            shutil.rmtree(self.first_made, ignore_errors=True)
            return
        for name in set(os.listdir(self.path)) - self.found:
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def start(
    name: str, port: int, data_dir: str | None, start_timeout_s: float, http_port: int | None = None
) -> EmbeddedServer:
    """
    Start an engine on the port (0: any free port), and on one for HTTP if that is given.

    Return once it is ready. A failed start leaves nothing behind.
    """
    folder = DataFolder(data_dir, name)
    server = None
    try:
        server = EmbeddedServer(_launch(port, http_port, folder.path), folder)
        server.http_port = http_port
        server.port = _wait_until_ready(server.process, folder.path / LOG, start_timeout_s)
        with _private(folder.path / PID) as file:
            file.write(b"%d\n" % server.process.pid)
    except BaseException:
        with interrupts.deferred():
            if server is not None:
                server.discard()
            else:
                folder.restore()
        raise
    return server


def running_engine(folder: Path) -> int | None:
    """Return the process id of the engine that run-local left running on a data directory, or None if it has exited."""
    try:
        pid = int((folder / PID).read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    # Another program may have that number by now.
    with contextlib.suppress(OSError):
        return pid if b"\0redisai_engine\0" in Path(f"/proc/{pid}/cmdline").read_bytes() else None
    return pid


def http_port(wanted: int | None) -> int | None:
    """Return the port for HTTP: the wanted one, or a free one for 0. For None, too, if the engine has what it needs."""
    if wanted is None and any(find_spec(package) is None for package in _HTTP_PACKAGES):
        return None
    return wanted or ports.any_free()


def _launch(port: int, http_port: int | None, folder: Path) -> subprocess.Popen[bytes]:
    # Unbuffered, so that the ready line reaches the log at once.
    environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    environment["PYTHONUNBUFFERED"] = "1"
    # The engine doesn't import MLflow. Nothing that it might start may report either.
    environment.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    environment.setdefault("REDISAI_ENGINE_WORKERS", "1")  # it has one user's requests, and the machine is that user's
    command = [sys.executable, "-m", "redisai_engine", "--bind", ports.HOST]
    # It serves the model of the user who starts it, whose code that user may run anyway.
    command += ["--port", str(port), "--data-dir", str(folder), "--python-models"]
    if http_port is not None:
        command += ["--http-port", str(http_port)]
    with _private(folder / LOG) as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,  # neither closing the terminal nor Ctrl-C in it reaches the engine
        )


def _private(path: Path) -> BinaryIO:
    """Open a new file that only its owner may read, whoever may read its folder."""
    path.unlink(missing_ok=True)
    # Not a link that whoever may write to the folder puts there now.
    return open(path, "xb", opener=partial(os.open, mode=0o600))


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path, timeout_s: float) -> int:
    last = time.monotonic() + timeout_s
    while True:
        text = log.read_text(errors="replace")
        for line in text.splitlines():
            if line.startswith("ready: "):
                return int(line.rpartition(":")[2])
        if process.poll() is not None:
            raise StartFailed("the engine", f"exited at startup with exit code {process.returncode}", text)
        deadline.check()
        if time.monotonic() > last:
            raise StartFailed(
                "the engine",
                f"wasn't ready after {timeout_s:g} s (change the limit with -C start_timeout=...)",
                text,
            )
        time.sleep(LOOK_EVERY_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    # The embedded redis-server is in the engine's process group, and must not outlive the engine.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _first_missing(path: Path) -> Path | None:
    """Return the topmost folder on the path to `path` that doesn't exist yet, or None."""
    missing = None
    while not path.exists():
        missing = path
        path = path.parent
    return missing


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)[:40]
