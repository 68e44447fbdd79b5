"""Faults of the Redis behind the engine."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import psutil

from faults.fault import AWAY, ENDED, Fault
from faults.processes import Processes, apart, embedded, with_a_disk_that_fills
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


def redis_loads_slowly(there: Processes) -> None:
    """Kill Redis, and start it again so that it takes seconds to load: it then answers LOADING."""
    assert there.redis is not None
    with connected(there.redis) as wire:
        for number in range(1000):
            wire.ask(f"SET faults:loaded:{number} 1")
    there.redis.process.kill()
    there.redis.process.wait()
    there.restart_redis("--key-load-delay", "2000")  # microseconds


def redis_can_not_save(there: Processes) -> None:
    """Have saving fail, so that Redis refuses writes (MISCONF), until it can save again."""
    assert there.redis is not None
    assert there.redis.data_dir is not None
    in_the_way = there.redis.data_dir / "dump.rdb"
    in_the_way.mkdir()
    with connected(there.redis) as wire:
        wire.send("CONFIG SET save 3600", "BGSAVE")
        wire.send(("CONFIG", "SET", "save", "3600 1"))
        wire.replies(3)
        wait_until(lambda: there.ask("SET faults:refused 1").startswith(b"-MISCONF"), what="MISCONF")
        in_the_way.rmdir()
        wait_until(lambda: _saved(wire), what="a save")


def _saved(wire: Connection) -> bool:
    wire.ask("BGSAVE")
    return b"rdb_last_bgsave_status:ok" in wire.ask("INFO persistence")


def disk_is_full(appendfsync: str) -> Callable[[Processes], None]:
    """Return a scenario in which the file of changes can't grow for a while."""

    def scenario(there: Processes) -> None:
        there.ask(f"CONFIG SET appendfsync {appendfsync}")
        server = there.own_redis
        unlimited = server.rlimit(psutil.RLIMIT_FSIZE)
        server.rlimit(psutil.RLIMIT_FSIZE, (1, unlimited[1]))
        if appendfsync == "always":  # Redis then ends, and the engine starts another one
            wait_until(lambda: _is_other(lambda: there.own_redis, server), what="another redis-server")
            wait_until(lambda: _answers(there), what="its answer")
            there.ask("CONFIG SET appendfsync always")
            return
        wait_until(lambda: there.ask("SET faults:refused 1")[:1] == b"-", what="a refused write")
        server.rlimit(psutil.RLIMIT_FSIZE, unlimited)
        wait_until(lambda: there.ask("SET faults:refused 1")[:1] == b"+", what="a write")

    return scenario


def password_is_set_for_a_while(there: Processes) -> None:
    _change_for_a_while(there, "CONFIG SET requirepass secret", ("CONFIG", "SET", "requirepass", ""), b"-NOAUTH")


def writes_are_forbidden_for_a_while(there: Processes) -> None:
    _change_for_a_while(there, "ACL SETUSER default -@write", ("ACL", "SETUSER", "default", "+@all"), b"-NOPERM")


def _change_for_a_while(there: Processes, change: str, back: tuple[str, ...], refusal: bytes) -> None:
    """Change what clients may do, end their connections, and wait until a write has been refused."""
    assert there.redis is not None
    with connected(there.redis) as wire:
        wire.send(change, "CLIENT KILL TYPE normal SKIPME yes", "CLIENT KILL TYPE pubsub")
        wire.replies(3)
        wait_until(lambda: there.ask("SET faults:refused 1").startswith(refusal), what="a refused write")
        assert wire.ask(*back) == b"+OK\r\n"


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


def _answers(there: Processes) -> bool:
    try:
        return there.ask("PING") == b"+PONG\r\n"
    except (OSError, AssertionError):  # the connection has ended
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
        f"{ENDED}|LOADING.*",
        is_short=True,
    ),
    Fault(
        "The engine's own redis-server is killed",
        "own-redis-killed",
        embedded,
        own_redis_is_killed,
        f"{ENDED}|LOADING.*",
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
        ENDED,
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
    Fault(
        "Redis is killed, and loads for seconds",
        "loading",
        apart,
        redis_loads_slowly,
        f"{ENDED}|LOADING.*",
    ),
    Fault("Redis can't save", "misconf", apart, redis_can_not_save, "MISCONF.*"),
    Fault(
        "The disk of the engine's own redis-server is full",
        "disk-full",
        with_a_disk_that_fills,
        disk_is_full("everysec"),
        "MISCONF.*",
    ),
    Fault(
        "The disk is full, and each change is written at once",
        "disk-full-always",
        with_a_disk_that_fills,
        disk_is_full("always"),
        f"{ENDED}|MISCONF.*|LOADING.*",
    ),
    Fault(
        "Redis gets a password, and all connections end",
        "password",
        apart,
        password_is_set_for_a_while,
        f"{ENDED}|NOAUTH.*",
    ),
    Fault(
        "Clients may not write any more (ACL), and all connections end",
        "acl",
        apart,
        writes_are_forbidden_for_a_while,
        f"{ENDED}|NOPERM.*",
    ),
]
