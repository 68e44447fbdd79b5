"""
The soak: full load for minutes, while models, scripts and deployments come and go, and what stays of it in memory.

Each client does one thing again and again; which version it is at follows from its count, so nothing is ever asked for
twice. Memory is sampled meanwhile. After a warm-up, the median of the last samples must not be above that of the first
ones by more than `ALLOWED`.

Two engines stand in front of one Redis. The clients are those of the first, whose memory counts; the second, and Redis
itself, are how somebody else changes what the first has in memory.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic
from typing import ClassVar

import psutil

from faults import memory
from faults.load import sum_or_error
from faults.outcome import Outcome
from support.connection import Connection, connected
from support.gateway import prediction, store_model
from support.replies import OK
from support.servers import Server, start_engine, start_redis
from support.tiny_models import onnx_with_weights

ALLOWED = 0.05  # of what was there after the warm-up
SECONDS = 600.0
_WARM_UP = 1 / 3  # of the whole time
_WINDOW = 1 / 4  # of the time after it, in which samples are put together
_SAMPLE_SECONDS = 0.5
_MODEL_BYTES = 2**20
_MODEL = "soak:model"


@dataclass
class Course:
    """What one process took, in MiB, sample by sample after the warm-up."""

    samples: list[float] = field(default_factory=list)

    @property
    def first(self) -> float:
        return median(self.samples[: self._window()])

    @property
    def last(self) -> float:
        return median(self.samples[-self._window() :])

    @property
    def growth(self) -> float:
        return self.last / self.first - 1

    def _window(self) -> int:
        return max(1, int(len(self.samples) * _WINDOW))


@dataclass
class Soaked:
    """What came of a soak: memory, how often each client did its work, and errors that none should see."""

    engine: Course = field(default_factory=Course)
    redis: Course = field(default_factory=Course)
    done: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Servers:
    engine: Server
    other: Server
    redis: Server
    blobs: tuple[bytes, ...]


class Client:
    """What one kind of client has at hand: connections to all servers, opened when first used."""

    def __init__(self, servers: Servers, running: ExitStack) -> None:
        self.servers = servers
        self._running = running
        self._wires: dict[int, Connection] = {}

    def at(self, server: Server) -> Connection:
        if server.port not in self._wires:
            self._wires[server.port] = self._running.enter_context(connected(server))
            self._wires[server.port].socket.settimeout(60)
        return self._wires[server.port]

    @property
    def here(self) -> Connection:
        return self.at(self.servers.engine)

    def store(self, key: str, number: int, server: Server | None = None) -> None:
        blob = self.servers.blobs[number % len(self.servers.blobs)]
        assert self.at(server or self.servers.engine).ask("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", blob) == OK

    def run(self, key: str) -> None:
        sets = "|> AI.TENSORSET x FLOAT 1 VALUES 2"
        reply = self.here.ask(f"AI.DAGEXECUTE_RO ROUTING {key} {sets} |> AI.MODELEXECUTE {key} INPUTS 1 x OUTPUTS 1 y")
        assert b"-" not in reply[:1], reply
        assert b"\r\n-" not in reply, reply


#: What one kind of client does for the n-th time.
Work = Callable[[Client, int], None]

# -- the clients: each function does its work once, for the `number`th time


def predicts(client: Client, number: int) -> None:
    for _ in range(20):
        client.here.send(prediction(_MODEL, number % 1000, 1))
        reply = client.here.reply()
        assert sum_or_error(reply) == number % 1000 + 1, reply


def replaces_a_model(client: Client, number: int) -> None:
    client.store("soak:replaced", number)
    client.run("soak:replaced")


def deploys_anew(client: Client, number: int) -> None:
    """Store beside, try, put in its place: what a deployment does."""
    client.store("soak:aside", number)
    client.run("soak:aside")
    client.here.ask("RENAME soak:aside soak:deployed")
    client.run("soak:deployed")


def deletes_a_model(client: Client, number: int) -> None:
    key = f"soak:deleted:{number}"
    client.store(key, number)
    client.run(key)
    assert client.here.ask(f"AI.MODELDEL {key}") == OK


def deletes_behind_the_engine(client: Client, number: int) -> None:
    key = f"soak:behind:{number}"
    client.store(key, number)
    client.run(key)
    client.at(client.servers.redis).ask(f"DEL {key}")


def deletes_at_another_engine(client: Client, number: int) -> None:
    key = f"soak:elsewhere:{number}"
    client.store(key, number, client.servers.other)
    client.run(key)
    assert client.at(client.servers.other).ask(f"AI.MODELDEL {key}") == OK


def lets_a_model_expire(client: Client, number: int) -> None:
    key = f"soak:expires:{number}"
    client.store(key, number)
    client.run(key)
    client.here.ask(f"PEXPIRE {key} 50")


def changes_a_script(client: Client, number: int) -> None:
    source = f"def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n    return [tensors[0] + {number}]\n"
    stored = client.here.ask("AI.SCRIPTSTORE", "soak:script", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", source)
    assert stored == OK, stored
    client.here.ask("AI.TENSORSET soak:tensor FLOAT 1 VALUES 1")
    assert client.here.ask("AI.SCRIPTEXECUTE soak:script f INPUTS 1 soak:tensor OUTPUTS 1 soak:sum") == OK


def reads_a_model(client: Client, number: int) -> None:
    reply = client.here.ask(f"AI.MODELGET {_MODEL} META BLOB")
    assert reply[:1] == b"*", reply


def connects_and_leaves(client: Client, number: int) -> None:
    with connected(client.servers.engine) as wire:
        wire.ask(f"CLIENT SETNAME soak-{number}")
        wire.send(prediction(_MODEL, number % 1000, 1))
        wire.reply()


def makes_mistakes(client: Client, number: int) -> None:
    """Ask for what isn't there, under names that nobody has used before, and store what is no model."""
    wire = client.here
    assert wire.ask(f"AI.MODELEXECUTE soak:missing:{number} INPUTS 1 x{number} OUTPUTS 1 y")[:1] == b"-"
    assert wire.ask("AI.MODELSTORE", "soak:damaged", "ONNX", "CPU", "BLOB", f"damaged {number}")[:1] == b"-"
    assert wire.ask(f"AI.INFO soak:missing:{number}")[:1] == b"-"
    assert wire.ask(f"NO.SUCH.COMMAND.{number}")[:1] == b"-"


def reads_slowly(client: Client, number: int) -> None:
    """Ask for many times what --output-limit allows, and leave after a little of it has been read."""
    with connected(client.servers.engine) as wire, suppress(OSError):
        wire.send(*["GET soak:large"] * 64)
        for _ in range(64):
            wire.socket.recv(2**16)


CLIENTS: tuple[Work, ...] = (
    predicts,
    replaces_a_model,
    deploys_anew,
    deletes_a_model,
    deletes_behind_the_engine,
    deletes_at_another_engine,
    lets_a_model_expire,
    changes_a_script,
    reads_a_model,
    connects_and_leaves,
    makes_mistakes,
    reads_slowly,
)


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """Start a Redis and two engines, and store what clients rely on."""
    with ExitStack() as running:
        redis = start_redis(folder / "redis")
        running.callback(redis.stop)
        engines = []
        for name in ("engine", "other"):
            engines.append(start_engine(folder / name, "--redis", redis.url, "--output-limit", "16777216"))
            running.callback(engines[-1].stop)
        with connected(engines[0]) as wire:
            wire.socket.settimeout(60)
            store_model(wire, _MODEL)
            wire.ask("SET", "soak:large", b"x" * _MODEL_BYTES)
        blobs = tuple(onnx_with_weights(_MODEL_BYTES, seed) for seed in range(3))
        yield Servers(engines[0], engines[1], redis, blobs)


def soak(
    folder: Path, seconds: float = SECONDS, clients: tuple[Callable[[Client, int], None], ...] = CLIENTS
) -> Soaked:
    """Have all clients work for so long, and return what came of it."""
    came = Soaked()
    ending = threading.Event()
    with servers(folder) as there:
        threads = [threading.Thread(target=_work, args=(work, there, ending, came)) for work in clients]
        for thread in threads:
            thread.start()
        try:
            _watch(there, came, seconds)
        finally:
            ending.set()
            for thread in threads:
                thread.join()
    return came


def _work(work: Work, there: Servers, ending: threading.Event, came: Soaked) -> None:
    number = 0
    while not ending.is_set():
        try:
            with ExitStack() as running:
                client = Client(there, running)
                while not ending.is_set():
                    work(client, number)
                    number += 1
                    came.done[work.__name__] = number
        except (OSError, AssertionError) as error:
            came.errors[f"{work.__name__}: {str(error)[:100]}"] += 1
            number += 1


def _watch(there: Servers, came: Soaked, seconds: float) -> None:
    begin = monotonic()
    pause = threading.Event()
    while (now := monotonic() - begin) < seconds:
        if now > seconds * _WARM_UP:
            came.engine.samples.append(memory.of_engine(there.engine.process.pid))
            came.redis.samples.append(memory.proportional(psutil.Process(there.redis.process.pid)))
        pause.wait(_SAMPLE_SECONDS)


@dataclass(frozen=True)
class Soak:
    """The soak as a row of the table."""

    seconds: float = SECONDS
    allowed: float = ALLOWED
    title: ClassVar[str] = "Ten minutes of full load while models, scripts and clients come and go"
    word: ClassVar[str] = "soak"
    is_short: ClassVar[bool] = False

    def run(self, folder: Path) -> Outcome:
        came = soak(folder, self.seconds)
        courses = {"engine and hosts": came.engine, "Redis": came.redis}
        told = [f"{name}: {course.first:.0f} → {course.last:.0f} MiB" for name, course in courses.items()]
        grown = [
            f"{name} grew by {course.growth:.1%}" for name, course in courses.items() if course.growth > self.allowed
        ]
        done = ", ".join(f"{count:,} × {name}" for name, count in came.done.items())
        return Outcome("; ".join(told), None, done, [*grown, *map(str, came.errors.items())])
