"""Faults of the Redis behind the engine."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import psutil

from faults.fault import AWAY, ENDED, Fault
from faults.processes import Processes, apart, embedded
from support.connection import Connection, connected
from support.waiting import free_port, wait_until


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


FAULTS = [
    Fault(
        "Redis is killed and started again",
        "redis-killed",
        apart,
        redis_is_killed,
        f"{ENDED}|{AWAY}|LOADING.*",
        is_short=True,
    ),
    Fault(
        "The engine's own redis-server is killed",
        "own-redis-killed",
        embedded,
        own_redis_is_killed,
        f"{ENDED}|{AWAY}|LOADING.*",
    ),
    Fault(
        "Redis stands still (SIGSTOP), and goes on",
        "redis-stopped",
        apart,
        redis_is_stopped,
        f"{ENDED}|{AWAY}",
        ("--upstream-timeout", "2000"),
    ),
    Fault(
        "All connections to Redis are cut, 20 times",
        "connections-cut",
        apart,
        all_connections_are_cut,
        f"{ENDED}|{AWAY}",
    ),
    Fault("Redis is out of memory", "oom", apart, set_for_a_while("maxmemory", "1", "0"), "OOM.*", is_short=True),
    Fault(
        "Redis becomes a read-only replica",
        "readonly",
        apart,
        redis_is_a_replica,
        "READONLY.*|MASTERDOWN.*|LOADING.*",
    ),
    Fault(
        "Redis misses its replicas",
        "noreplicas",
        apart,
        set_for_a_while("min-replicas-to-write", "1", "0"),
        "NOREPLICAS.*",
    ),
]
