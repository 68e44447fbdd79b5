"""
The faults: what is done to which process while clients are at work.

A scenario gets the processes and does its harm. It returns when the harm has been done and, where it passes, is over.
Everything else (`run.py`) is the same for all.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from support.connection import Connection, connected
from support.gateway import prediction
from support.servers import Server, start_engine, start_redis
from support.tiny_models import onnx_counter, product_and_sum
from support.waiting import free_port, wait_until

_KEPT = ("--appendonly", "yes", "--appendfsync", "always")  # else Redis itself may lose what it has acknowledged
_ENDLESS = """def f(tensors: List[Tensor], keys: List[str], args: List[str]):
    x = torch.ones(1)
    while bool(x.sum() > 0):
        x = x + 1
    return x
"""


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


# -- Redis


def redis_is_killed(there: Processes) -> None:
    assert there.redis is not None
    there.redis.process.kill()
    there.redis.process.wait()
    there.restart_redis()


def own_redis_is_killed(there: Processes) -> None:
    killed = there.own_redis
    killed.kill()
    wait_until(lambda: _is_other(lambda: there.own_redis, killed), what="another redis-server")


def redis_is_stopped(there: Processes) -> None:
    assert there.redis is not None
    there.redis.process.send_signal(signal.SIGSTOP)
    with connected(there.engine) as wire:
        wire.socket.settimeout(60)
        wire.send("GET x")
        wait_until(lambda: _has_reply(wire), timeout_s=60, what="an answer while Redis stands still")
    there.redis.process.send_signal(signal.SIGCONT)


def set_for_a_while(setting: str, value: str, usual: str) -> Callable[[Processes], None]:
    """Return a scenario that changes a setting of Redis until a write has been refused."""

    def scenario(there: Processes) -> None:
        assert there.redis is not None
        with connected(there.redis) as wire:
            wire.ask(f"CONFIG SET {setting} {value}")
            wait_until(lambda: there.ask("SET faults:refused 1")[:1] == b"-", what="a refused write")
            wire.ask(f"CONFIG SET {setting} {usual}")

    return scenario


def redis_is_a_replica(there: Processes) -> None:
    assert there.redis is not None
    with connected(there.redis) as wire:
        wire.ask(f"REPLICAOF 127.0.0.1 {free_port()}")
        wait_until(lambda: there.ask("SET faults:refused 1").startswith(b"-READONLY"), what="READONLY")
        wire.ask("REPLICAOF NO ONE")


def all_connections_are_cut(there: Processes) -> None:
    assert there.redis is not None
    with connected(there.redis) as wire:
        for _ in range(20):
            wire.ask("CLIENT KILL TYPE normal SKIPME yes")
            wire.ask("CLIENT KILL TYPE pubsub")


# -- the engine


def worker_is(number: signal.Signals) -> Callable[[Processes], None]:
    """Return a scenario that sends one of two workers a signal, and waits for the one in its place."""

    def scenario(there: Processes) -> None:
        first = there.workers[0]
        first.send_signal(number)
        wait_until(lambda: first not in there.workers and len(there.workers) == 2, timeout_s=60, what="a new worker")

    return scenario


def engine_is_killed(there: Processes) -> None:
    """Kill the engine, and start it again on its port and its data, as systemd would."""
    _restart(there, lambda engine: engine.process.kill())


def engine_is_terminated(there: Processes) -> None:
    _restart(there, lambda engine: engine.process.terminate())


def _restart(there: Processes, end: Callable[[Server], None]) -> None:
    before = there.engine
    end(before)
    before.process.wait(60)
    data = str(before.data_dir)
    there.engine = start_engine(there.folder / "again", "--data-dir", data, "--port", str(before.port))


# -- models and scripts


def model_process_is_killed(there: Processes) -> None:
    _store_torch(there)
    host = there.hosts()[0]
    host.kill()
    wait_until(lambda: not host.is_running() or host.status() == psutil.STATUS_ZOMBIE, what="the host's end")
    _run_torch(there)


def script_never_ends(there: Processes) -> None:
    stored = there.ask("AI.SCRIPTSTORE", "faults:s", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", _ENDLESS)
    assert stored == b"+OK\r\n", stored
    with connected(there.engine) as wire:
        wire.socket.settimeout(60)
        reply = wire.ask("AI.SCRIPTEXECUTE faults:s f KEYS 1 faults:s OUTPUTS 1 faults:y")
        assert reply[:1] == b"-", reply


def run_takes_too_long(there: Processes) -> None:
    there.ask("AI.MODELSTORE", "faults:long", "ONNX", "CPU", "BLOB", onnx_counter())
    with connected(there.engine) as wire:
        wire.socket.settimeout(60)
        sets = "|> AI.TENSORSET n INT64 1 VALUES 1000000000000"
        run = "|> AI.MODELEXECUTE faults:long INPUTS 1 n OUTPUTS 1 y |> AI.TENSORGET y BLOB"
        assert b"-" in wire.ask(f"AI.DAGEXECUTE_RO ROUTING faults:long {sets} {run}")


def blob_is_damaged(there: Processes) -> None:
    blob = onnx_counter()
    for end in range(1, len(blob), max(1, len(blob) // 50)):
        there.ask("AI.MODELSTORE", "faults:damaged", "ONNX", "CPU", "BLOB", blob[:end])


# -- clients


def clients_are_cut_off(there: Processes) -> None:
    """End connections after each byte of a prediction, without reading the reply."""
    request = prediction("faults:model", 1, 2)
    for end in range(1, len(request) + 1):
        with socket.create_connection(("127.0.0.1", there.engine.port)) as connection:
            connection.sendall(request[:end])


def client_reads_nothing(there: Processes) -> None:
    """Ask for more than `--output-limit` allows, until the engine ends the connection."""
    there.ask("SET", "faults:large", b"x" * (4 << 20))
    with socket.create_connection(("127.0.0.1", there.engine.port), timeout=60) as connection:
        try:
            for _ in range(100_000):
                connection.sendall(b"GET faults:large\r\n" * 100)
        except OSError:
            return
    raise AssertionError("the connection was never ended")


def _store_torch(there: Processes) -> None:
    model = product_and_sum("TORCH")
    assert there.ask("AI.MODELSTORE", "faults:torch", "TORCH", "CPU", "BLOB", model.blob) == b"+OK\r\n"
    _run_torch(there)


def _run_torch(there: Processes) -> None:
    sets = "|> AI.TENSORSET a FLOAT 1 VALUES 2 |> AI.TENSORSET b FLOAT 1 VALUES 3"
    run = "|> AI.MODELEXECUTE faults:torch INPUTS 2 a b OUTPUTS 2 y z |> AI.TENSORGET y VALUES"
    wait_until(lambda: b"\r\n-" not in there.ask(f"AI.DAGEXECUTE_RO ROUTING faults:torch {sets} {run}"), what="a run")


def _is_other(current: Callable[[], psutil.Process], before: psutil.Process) -> bool:
    try:
        return current().pid != before.pid
    except (StopIteration, psutil.NoSuchProcess):
        return False


def _has_reply(wire: Connection) -> bool:
    try:
        return bool(wire.socket.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
