"""
Worker processes behind one port: the parent starts them, connects them to each other, replaces those that die or hang,
and ends them.

Theory of operation. Each worker is a complete engine in its own process. The kernel distributes the port's connections
among them (SO_REUSEPORT); those of a worker that is gone go to the others. The parent serves no clients: it starts the
embedded redis-server if one is needed, waits until all workers are ready, and restarts a worker that ends: at once
after the first death, with longer pauses after further ones. Batches form within one worker.

Invariant: no worker outlives the parent, unless it is hung.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import replace
from time import monotonic
from typing import Any

from redisai_engine.config import Settings
from redisai_engine.errors import StartError
from redisai_engine.folders import new_file
from redisai_engine.fronts.listening import cannot_listen, tls_of
from redisai_engine.process.crashes import Crashes
from redisai_engine.process.output import WorkerOutput
from redisai_engine.process.peers import Hub
from redisai_engine.process.stopping import Shutdown
from redisai_engine.process.worker import MANY_DEATHS, Deaths, End, Worker
from redisai_engine.service.engine import Question
from redisai_engine.service.memory.tallies import new_tallies

_PASSIVE = socket.AI_PASSIVE
_RETRY_SECONDS = 1.0
_WARY_SECONDS = 600.0  # how long after a death that nothing explains new workers note every run

_log = logging.getLogger(__name__)


class Workers:
    """
    The parent's worker processes. `redis_url` is the Redis behind all of them.

    Raise StartError if no worker could listen.
    """

    def __init__(self, settings: Settings, redis_url: str, output: WorkerOutput) -> None:
        tls_of(settings)  # so that a file that can't be used is told once, and not by each worker
        self._output = output
        self._hub = Hub()
        self._socket = _hold_port(settings.bind, settings.port, "--port")
        self.host, self.port = self._socket.getsockname()[:2]
        self._http_socket = _hold_port(settings.bind, settings.http_port, "--http-port") if settings.http_port else None
        self._settings = replace(settings, redis=redis_url, port=self.port)
        self._count = settings.workers
        self._places = new_file()  # for polling; `stop` closes it
        self._tallies = new_tallies(self._count)
        self._running: set[Worker] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._crashes = Crashes(settings.quarantine)
        self._wary_until = 0.0
        self._stopping = False
        self.restarts = 0

    async def start(self) -> None:
        """Start all workers and return when they are ready. Raise StartError if one of them can't start."""
        # Start all before waiting for the first, so that they import their modules at the same time.
        started = [await self._start_one(number) for number in range(1, self._count + 1)]
        for worker in started:
            if not await worker.is_ready():
                raise StartError("a worker process exited while starting; see its error message above")
        self._tasks = [asyncio.create_task(self._keep(worker)) for worker in started]

    async def ask(self, question: Question) -> list[Any]:
        """Ask all workers and return the answers of those that give one in time."""
        return await self._hub.ask_all(question)

    async def stop(self, stop: Shutdown) -> None:
        """Have all workers drain and exit, and wait for them. Kill those that take too long."""
        self._stopping = True
        for worker in self._running:
            worker.terminate()
        ends = [asyncio.create_task(worker.ended()) for worker in self._running]
        if ends and (await asyncio.wait(ends, timeout=stop.seconds_left()))[1]:
            for worker in self._running:
                worker.kill("the engine stops")
            await asyncio.wait(ends)
        for task in self._tasks:
            task.cancel()
        self._socket.close()
        self._places.close()
        self._tallies.close()
        if self._http_socket is not None:
            self._http_socket.close()

    async def _start_one(self, number: int) -> Worker:
        wary = monotonic() < self._wary_until
        common = {"polling": self._places.fileno(), "tallies": self._tallies.fileno()}
        worker = await Worker.start(number, self._settings, self._hub, self._output, common=common, wary=wary)
        self._running.add(worker)
        return worker

    async def _keep(self, worker: Worker) -> None:
        """Replace a worker whenever it has ended."""
        deaths = Deaths()
        while True:
            end = await worker.ended()
            self._running.discard(worker)
            if self._stopping:
                return
            seconds = deaths.pause(monotonic())
            _log.error("worker %d (process %d) %s; it is started anew", worker.number, worker.pid, end.how)
            self._blame(end)
            worker.close()
            if deaths.are_many:
                _log.critical(
                    "worker %d died %d times within a minute; it is started again in %g s, and the others serve alone",
                    *(worker.number, MANY_DEATHS, seconds),
                )
            await asyncio.sleep(seconds)
            worker = await self._start_again(worker.number)
            self.restarts += 1

    def _blame(self, end: End) -> None:
        if self._crashes.died(end.notes, end.how, certain=end.certain):
            self._hub.tell({"set": {"quarantine": self._crashes.refused}})
        elif end.certain:
            self._wary_until = monotonic() + _WARY_SECONDS

    async def _start_again(self, number: int) -> Worker:
        while True:
            try:
                return await self._start_one(number)
            except OSError as error:  # the system is short of processes, memory or descriptors
                _log.error("worker %d can't be started: %s", number, error.strerror)
                await asyncio.sleep(_RETRY_SECONDS)


def _hold_port(bind: str, port: int, flag: str) -> socket.socket:
    """Bind the port without listening, so that no other program takes it and port 0 is the same for all workers."""
    with contextlib.ExitStack() as closed_on_failure:
        try:
            family, _, _, _, address = socket.getaddrinfo(bind or None, port, type=socket.SOCK_STREAM, flags=_PASSIVE)[
                0
            ]
            holder = closed_on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM))
            # Bind without SO_REUSEPORT first: the port of another program must be refused, not shared.
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                _bind(probe, address)
                address = probe.getsockname()
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(holder, address)
        except OSError as error:
            raise cannot_listen(bind, port, error, flag) from None
        closed_on_failure.pop_all()
        return holder


def _bind(taken: socket.socket, address: Any) -> None:
    """Bind as workers do: a socket of IPv6 leaves the port of IPv4 to others."""
    if taken.family == socket.AF_INET6:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    taken.bind(address)
