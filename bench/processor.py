"""
The processor time that an engine spends on a request: of two versions, in short turns on one machine.

Throughput measures what else the machine does, too. Processor time does so less, and with turns of a tenth of a second
both versions meet the same neighbours. A round's figure is that of its best turn. One connection sends requests, or
fifty do, each its next one when all have been answered; what Redis and the client spend isn't counted. All share one
processor, because waking another one may cost as much as a small request.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import hiredis

from bench import models, servers
from bench.drive import Argument
from bench.rounds import Figures, Progress
from bench.storing import check
from bench.wire import redis_exchange

_WARM_UP = 3000  # requests
_TURNS = 8  # in one round
_CONNECTIONS = 50

Round = dict[str, list[Figures]]
S = TypeVar("S")


@dataclass(frozen=True)
class Load:
    """Requests that each connection sends in one write, so many of them, and how often in one turn."""

    request: bytes
    replies: int
    times: int
    connections: int = 1


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._reader = hiredis.Reader()

    def send(self, load: Load) -> None:
        self._socket.sendall(load.request)

    def take(self, load: Load) -> None:
        for _ in range(load.replies):
            self._reply()

    def close(self) -> None:
        self._socket.close()

    def _reply(self) -> None:
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 16))
        if isinstance(reply, hiredis.ReplyError):
            raise reply


class Subject:
    """A running engine with its clients."""

    def __init__(self, running: servers.Running) -> None:
        self._pid = running.pid
        self._clients = [Client(running.port) for _ in range(_CONNECTIONS)]

    def send(self, load: Load, times: int) -> None:
        clients = self._clients[: load.connections]
        for _ in range(times):
            for client in clients:
                client.send(load)
            for client in clients:
                client.take(load)

    def measure(self, load: Load) -> float:
        """Return microseconds of processor time for each request of one turn."""
        before = nanoseconds(self._pid)
        self.send(load, load.times)
        return (nanoseconds(self._pid) - before) / load.times / load.replies / load.connections / 1e3

    def close(self) -> None:
        for client in self._clients:
            client.close()


def nanoseconds(pid: int) -> int:
    """Return what all threads of a process have run for. Linux only."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def loads() -> dict[str, Load]:
    tiny = models.tiny()
    row = tiny.rows().tobytes()
    dag = _request(tiny.dag())
    three = (
        _request(["AI.TENSORSET", "x", "FLOAT", 1, 4, "BLOB", row])
        + _request(["AI.MODELEXECUTE", "tiny", "INPUTS", 1, "x", "OUTPUTS", 1, "y"])
        + _request(["AI.TENSORGET", "y", "BLOB"])
    )
    get, put = _request(["GET", "key"]), _request(["SET", "key", "0123456789"])
    return {
        "prediction": Load(dag, 1, 2000),
        "prediction, 16 pipelined": Load(dag * 16, 16, 400),
        "tensor set, model executed, tensor read, in one write": Load(three, 3, 400),
        "tensor set": Load(_request(["AI.TENSORSET", "x", "FLOAT", 1, 4, "BLOB", row]), 1, 1000),
        "model executed": Load(_request(["AI.MODELEXECUTE", "tiny", "INPUTS", 1, "x", "OUTPUTS", 1, "y"]), 1, 600),
        "tensor read": Load(_request(["AI.TENSORGET", "y", "BLOB"]), 1, 1500),
        "GET": Load(get, 1, 2000),
        "GET, 16 pipelined": Load(get * 16, 16, 500),
        "SET": Load(put, 1, 2000),
        "prediction, 50 connections": Load(dag, 1, 60, _CONNECTIONS),
        "GET, 50 connections": Load(get, 1, 60, _CONNECTIONS),
        "SET, 50 connections": Load(put, 1, 60, _CONNECTIONS),
    }


def in_turns(paths: Mapping[str, str], folder: Path, rounds: int) -> dict[str, list[Round]]:
    """Measure engines that Python finds in `paths`, by name, and return `rounds` figures of each series."""

    def measured(subjects: Mapping[str, Subject]) -> dict[str, Round]:
        best = {series: _best(subjects, load) for series, load in loads().items()}
        return {
            name: {series: [{"processor_us": round(best[series][name], 3)}] for series in best} for name in subjects
        }

    return in_rounds(
        "processor", rounds, {name: _subject(path, folder / name) for name, path in paths.items()}, measured
    )


def in_rounds(
    what: str,
    rounds: int,
    starting: Mapping[str, AbstractContextManager[S]],
    measured: Callable[[Mapping[str, S]], Mapping[str, Round]],
) -> dict[str, list[Round]]:
    """Start subjects that share one processor, and return what `measured` finds of each in so many rounds."""
    _share_one_processor()
    progress = Progress()
    found: dict[str, list[Round]] = {name: [] for name in starting}
    with contextlib.ExitStack() as stack:
        subjects = {name: stack.enter_context(one) for name, one in starting.items()}
        for number in range(1, rounds + 1):
            progress.round(f"{what}, round {number} of {rounds}")
            for name, figures in measured(subjects).items():
                found[name].append(figures)
    return found


def _best(subjects: Mapping[str, Subject], load: Load) -> dict[str, float]:
    """Return the figure of each subject's best turn."""
    figures: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(_TURNS):
        for name in subjects if number % 2 else reversed(list(subjects)):
            figures[name].append(subjects[name].measure(load))
    return {name: min(found) for name, found in figures.items()}


def _share_one_processor() -> None:
    """Keep this process, and all that it starts from now on, on one processor. Linux only."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@contextlib.contextmanager
def _subject(path: str, folder: Path) -> Iterator[Subject]:
    """Start an engine that doesn't stay awake for requests to come, which would count as its work."""
    with patch.dict(os.environ, PYTHONPATH=path):
        starting = servers.engine(folder, "--busy-poll", "0")
        running = starting.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(starting)
        subject = Subject(running)
        stack.callback(subject.close)
        tiny = models.tiny()
        for words in (tiny.store(), ["SET", "key", "0123456789"]):
            subject.send(Load(_request(words), 1, 1), 1)
        check(running.port, tiny)
        for load in loads().values():
            subject.send(load, _WARM_UP // load.replies // load.connections)
        yield subject


def _request(words: Sequence[Argument]) -> bytes:
    return redis_exchange(words).request
