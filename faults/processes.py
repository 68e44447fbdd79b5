"""The processes that faults happen to: an engine and the Redis behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from support.connection import connected
from support.servers import Server, redis_server_binary, start_engine, start_redis

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

    def restart_redis(self, *arguments: str) -> None:
        """Start Redis again, on the port and the data of the one that has ended."""
        assert self.redis is not None
        self.redis = start_redis(self.folder / "redis", *_KEPT, *arguments, port=self.redis.port)

    def restart_engine(self) -> None:
        """Start the engine again, on the port and the data or the Redis of the one that has ended."""
        before = self.engine
        behind = ("--data-dir", str(before.data_dir)) if self.redis is None else ("--redis", self.redis.url)
        self.engine = start_engine(self.folder / "again", *behind, "--port", str(before.port))

    def stop(self) -> None:
        self.engine.stop(timeout_s=60)
        if self.redis is not None:
            self.redis.stop()

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
def embedded(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, descriptors: str = ""
) -> Iterator[Processes]:
    """
    Start an engine with its own redis-server, which writes each change to the disk before it acknowledges it.

    `descriptors` are the words of a shell's `ulimit` before it starts.
    """
    engine = start_engine(folder / "engine", *arguments, environment=environment, descriptors=descriptors)
    found = Processes(folder, engine)
    try:
        with connected(engine) as wire:
            wire.ask("CONFIG SET appendfsync always")
        yield found
    finally:
        found.stop()


@contextmanager
def with_a_disk_that_fills(folder: Path, *arguments: str) -> Iterator[Processes]:
    """Start `embedded` processes whose redis-server goes on, with an error, when a file may not grow any more."""
    programs = folder / "programs"
    programs.mkdir()
    wrapper = programs / "redis-server"
    wrapper.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {redis_server_binary()} \"$@\"\n")
    wrapper.chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    with embedded(folder, *arguments, environment={"PATH": path}) as there:
        yield there


@contextmanager
def apart(folder: Path, *arguments: str) -> Iterator[Processes]:
    """Start a redis-server that writes each change to the disk before it acknowledges it, and an engine before it."""
    redis = start_redis(folder / "redis", *_KEPT)
    with ExitStack() as running:
        running.callback(redis.stop)
        engine = start_engine(folder / "engine", "--redis", redis.url, *arguments)
        found = Processes(folder, engine, redis)
        running.callback(found.stop)
        yield found
