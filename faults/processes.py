"""The processes that faults happen to: an engine and the Redis behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from support.connection import connected
from support.servers import Server, start_engine, start_redis

_KEPT = ("--appendonly", "yes", "--appendfsync", "always")  # else Redis itself may lose what it has acknowledged


@dataclass
class Processes:
    """An engine, and the Redis behind it unless that is the engine's own."""

    folder: Path
    engine: Server
    redis: Server | None = None

    @property
    def own_redis(self) -> psutil.Process:
        return self._child("redis-server")

    @property
    def workers(self) -> list[psutil.Process]:
        return [child for child in self._children() if "redisai_engine" in _words(child)]

    def hosts(self) -> list[psutil.Process]:
        """Return the processes that models run in."""
        below = psutil.Process(self.engine.process.pid).children(recursive=True)
        return [process for process in below if process.ppid() != self.engine.process.pid]

    def restart_redis(self) -> None:
        """Start Redis again, on the port and the data of the one that has ended."""
        assert self.redis is not None
        self.redis = start_redis(self.folder / "redis", *_KEPT, port=self.redis.port)

    def ask(self, *command: bytes | str | int) -> bytes:
        with connected(self.engine) as wire:
            wire.socket.settimeout(60)  # the first model of a framework waits until that is imported
            return wire.ask(*command)

    def _child(self, name: str) -> psutil.Process:
        return next(child for child in self._children() if any(name in word for word in _words(child)[:1]))

    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self.engine.process.pid).children()


def _words(process: psutil.Process) -> list[str]:
    """Return a process's command line, empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # a zombie's too
        return []


@contextmanager
def embedded(folder: Path, *arguments: str) -> Iterator[Processes]:
    """Start an engine with its own redis-server, which writes each change to the disk before it acknowledges it."""
    engine = start_engine(folder / "engine", *arguments)
    try:
        with connected(engine) as wire:
            wire.ask("CONFIG SET appendfsync always")
        yield Processes(folder, engine)
    finally:
        engine.stop(timeout_s=60)


@contextmanager
def apart(folder: Path, *arguments: str) -> Iterator[Processes]:
    """Start a redis-server that writes each change to the disk before it acknowledges it, and an engine before it."""
    redis = start_redis(folder / "redis", *_KEPT)
    with ExitStack() as running:
        engine = start_engine(folder / "engine", "--redis", redis.url, *arguments)
        running.callback(engine.stop)
        found = Processes(folder, engine, redis)
        running.callback(lambda: found.redis and found.redis.stop())
        yield found
