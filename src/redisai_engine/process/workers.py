"""
Worker processes behind one port: the parent starts them, connects them to each other, and ends them.

Theory of operation. Each worker is a complete engine in its own process. The kernel distributes the port's connections
among them (SO_REUSEPORT). The parent serves no clients: it starts the embedded redis-server if one is needed, waits
until all workers are ready, and restarts a worker that dies. Batches form within one worker.

Invariant: no worker outlives the parent.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from redisai_engine.children import end_with_parent
from redisai_engine.config import Settings
from redisai_engine.errors import StartError
from redisai_engine.process.peers import Hub
from redisai_engine.service.polling import microseconds

#: The environment variable that holds a worker's settings and the path of the hub's socket, as JSON.
VARIABLE = "REDISAI_ENGINE_WORKER"

_RESTART_SECONDS = 0.5

_log = logging.getLogger(__name__)


def worker_settings() -> tuple[Settings, str] | None:
    """Return this process's settings and the path of the hub's socket if it is a worker, otherwise None."""
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    given = json.loads(text)
    return Settings(**given["settings"]), given["hub"]


class Workers:
    """The parent's worker processes. `redis_url` is the Redis behind all of them."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="redisai-engine-")
        self._hub = Hub()
        self._socket = self._hold_port(settings)
        self.host, self.port = self._socket.getsockname()[:2]
        # Whether to poll is decided here: a worker's own settings no longer show how many workers there are.
        own = replace(settings, redis=redis_url, port=self.port, workers=1, busy_poll=microseconds(settings))
        self._given = json.dumps({"settings": asdict(own), "hub": self._path})
        self._count = settings.workers
        self._processes: set[asyncio.subprocess.Process] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def _path(self) -> str:
        return str(Path(self._folder.name) / "hub.sock")

    @staticmethod
    def _hold_port(settings: Settings) -> socket.socket:
        """Bind the port without listening, so that no other program takes it and port 0 is the same for all workers."""
        family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
        holder = socket.socket(family, socket.SOCK_STREAM)
        try:
            # Bind without SO_REUSEPORT first: the port of another program must be refused, not shared.
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((settings.bind, settings.port))
                address = probe.getsockname()
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(address[:2])
        except OSError as error:
            holder.close()
            raise StartError(
                f"can't listen on {settings.bind}:{settings.port}: {error.strerror}; choose another --port"
            ) from None
        return holder

    async def start(self) -> None:
        """Start all workers and return when they are ready. Raise StartError if one of them can't start."""
        await self._hub.start(self._path)
        # Start all before waiting for the first, so that they import their modules at the same time.
        started = [await self._start_one() for _ in range(self._count)]
        for process in started:
            if not await _is_ready(process):
                raise StartError("a worker process exited while starting; see its error message above")
        self._tasks = [asyncio.create_task(self._keep_alive(process)) for process in started]

    async def stop(self) -> None:
        """Have all workers drain and exit, and wait for them."""
        self._stopping = True
        for process in list(self._processes):
            if process.returncode is None:
                process.terminate()
        for process in list(self._processes):
            await process.wait()
        for task in self._tasks:
            task.cancel()
        self._hub.stop()
        self._socket.close()
        self._folder.cleanup()

    async def _start_one(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "redisai_engine"),
            env={**os.environ, VARIABLE: self._given},
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=end_with_parent,
            start_new_session=True,  # Ctrl-C must reach only the parent, which then drains the workers
        )
        self._processes.add(process)
        return process

    async def _keep_alive(self, process: asyncio.subprocess.Process) -> None:
        while True:
            code = await process.wait()
            self._processes.discard(process)
            if self._stopping:
                return
            _log.error("a worker process exited with code %s; restarting it", code)
            await asyncio.sleep(_RESTART_SECONDS)
            process = await self._start_one()
            await _is_ready(process)


async def _is_ready(process: asyncio.subprocess.Process) -> bool:
    """Wait for a worker's ready line. Return False if it exited first."""
    assert process.stdout is not None
    return (await process.stdout.readline()).startswith(b"ready:")
