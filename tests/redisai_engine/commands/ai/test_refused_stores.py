"""
A store that Redis refuses in the middle changes nothing, and no client's store is lost by the end of another one's.

Redis allows everything until a model has been loaded or tried out. Then something happens before the one command that
writes it, or before those that follow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from redisai_engine.commands.hashes import NO_FIELD
from redisai_engine.redis import store
from support import onnx_faults
from support.connection import Connection, connected
from support.gateway import MISSING, model_blob, predict, store_model, store_onnx
from support.large_models import padded, too_little_memory, weighty
from support.replies import OK, integer
from support.servers import Server, start_engine, start_redis
from support.stepping import Stepping, stepping
from support.waiting import wait_until

KEY = "refused"
LEFT_OVER = store.MODEL_BLOB_FIELDS[1].decode()  # as an older, larger model has it
REDIS = [
    *("--save", "1000000 1", "--enable-debug-command", "yes"),
    *("--loading-process-events-interval-bytes", "1024"),
]

Refusing: TypeAlias = "Callable[[Server], contextlib.AbstractContextManager[None]]"


@dataclass(frozen=True)
class Ends:
    """An engine and its Redis, and a client of each. A proxy is between them."""

    engine: Server
    redis: Server
    between: Stepping
    wire: Connection
    direct: Connection

    def before(self, command: bytes, act: Callable[[], object]) -> None:
        """Do something once, before such a command reaches Redis; questions about a field in no hash don't count."""

        def look() -> None:
            if self.between.command[0] == command and NO_FIELD not in self.between.command:
                self.between.before = None
                act()

        self.between.before = look

    def held(self) -> tuple[list[bytes], bool]:
        """Return what Redis has under the key, and whether it expires."""
        fields = self.direct.ask(f"HGETALL {KEY}").split(b"$")
        return sorted(fields), self.direct.ask(f"TTL {KEY}") != integer(-1)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[tuple[Server, Server, Stepping]]:
    redis = start_redis(folder / "redis", *REDIS)
    with stepping(redis, KEY) as between:
        engine = start_engine(folder / "engine", "--redis", between.url)
        yield engine, redis, between
        engine.stop()
    redis.stop()


@contextlib.contextmanager
def clients(engine: Server, redis: Server, between: Stepping) -> Iterator[Ends]:
    with connected(engine) as wire, connected(redis) as direct:
        wire.socket.settimeout(60.0)
        yield Ends(engine, redis, between, wire, direct)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server, Stepping]]:
    with started(tmp_path_factory.mktemp("refused")) as servers:
        yield servers


@pytest.fixture
def ends(servers: tuple[Server, Server, Stepping]) -> Iterator[Ends]:
    with clients(*servers) as ends:
        yield ends
        ends.between.before = None
        ends.direct.ask(f"DEL {KEY}")


# -- what Redis refuses


def configured(begin: str, end: str) -> Refusing:
    """Return what has Redis refuse to write between these two commands."""

    @contextlib.contextmanager
    def refusing(redis: Server) -> Iterator[None]:
        with connected(redis) as admin:
            assert admin.ask(begin) == OK
            yield
            assert admin.ask(end) == OK

    return refusing


@contextlib.contextmanager
def failing_to_save(redis: Server) -> Iterator[None]:
    assert redis.data_dir is not None
    in_the_way = redis.data_dir / "dump.rdb"
    in_the_way.unlink(missing_ok=True)
    in_the_way.mkdir()
    with connected(redis) as admin:
        admin.ask("BGSAVE")
        wait_until(lambda: b"rdb_last_bgsave_status:err" in admin.ask("INFO persistence"), what="a save that fails")
        yield
        in_the_way.rmdir()
        admin.ask("BGSAVE")
        wait_until(lambda: b"rdb_last_bgsave_status:ok" in admin.ask("INFO persistence"), what="a save")


@contextlib.contextmanager
def loading(redis: Server) -> Iterator[None]:
    with connected(redis) as admin, connected(redis) as busy:
        admin.send(*(f"SET padding:{number} {'x' * 100}" for number in range(2000)))
        admin.replies(2000)
        assert admin.ask("CONFIG SET key-load-delay 20000") == OK  # microseconds
        busy.send("DEBUG RELOAD")
        wait_until(lambda: admin.ask("PING").startswith(b"-LOADING"), what="LOADING")
        yield
        assert admin.ask("CONFIG SET key-load-delay 0") == OK
        assert busy.reply() == OK


REFUSALS: dict[str, Refusing] = {
    "OOM": configured("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    "READONLY": configured("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    "NOPERM": configured("ACL SETUSER default -hset", "ACL SETUSER default +@all"),
    "NOREPLICAS": configured("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    "MISCONF": failing_to_save,
    "LOADING": loading,
}


def refused(ends: Ends, kind: str, blob: bytes) -> bytes:
    """Store a model, but have Redis refuse what writes it. Return the reply."""
    with contextlib.ExitStack() as refusal:
        ends.before(b"HSET", lambda: refusal.enter_context(REFUSALS[kind](ends.redis)))
        return ends.wire.ask("AI.MODELSTORE", KEY, "ONNX", "CPU", "BLOB", blob)


@pytest.mark.parametrize("kind", REFUSALS)
def test_the_older_model_and_its_expiry_stay(ends: Ends, kind: str) -> None:
    store_model(ends.wire, KEY, "Add")
    ends.direct.send(f"HSET {KEY} {LEFT_OVER} more", f"EXPIRE {KEY} 1000")
    assert ends.direct.replies(2) == [integer(1), integer(1)]
    held = ends.held()

    assert refused(ends, kind, model_blob("Mul")).startswith(b"-%b " % kind.encode())
    assert ends.held() == held
    assert predict(ends.wire, KEY, 3, 4) == 7
    store_model(ends.wire, KEY, "Mul")
    assert predict(ends.wire, KEY, 3, 4) == 12


@pytest.mark.slow
@pytest.mark.parametrize("kind", REFUSALS)
def test_of_a_large_model_nothing_is_there(ends: Ends, kind: str) -> None:
    """It is loaded at the same time, but not served."""
    assert refused(ends, kind, padded(model_blob("Mul"))).startswith(b"-%b " % kind.encode())
    assert ends.direct.ask(f"EXISTS {KEY}") == integer(0)
    assert predict(ends.wire, KEY, 3, 4) == MISSING
    store_onnx(ends.wire, KEY, padded(model_blob("Mul")))
    assert predict(ends.wire, KEY, 3, 4) == 12


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_is_refused_from_the_start_is_not_even_read(ends: Ends, kind: str) -> None:
    with REFUSALS[kind](ends.redis):
        assert ends.wire.ask("AI.MODELSTORE", KEY, "ONNX", "CPU", "BLOB", "no model").startswith(
            b"-%b " % kind.encode()
        )


@pytest.mark.parametrize("right", ["exists", "hget", "pttl", "hset", "hdel"])
def test_a_user_who_lacks_a_right_stores_nothing(ends: Ends, right: str) -> None:
    assert ends.direct.ask(f"ACL SETUSER limited on nopass ~* +@all -{right}") == OK
    assert ends.wire.ask("AUTH limited any") == OK

    refusal = ends.wire.ask("AI.MODELSTORE", KEY, "ONNX", "CPU", "BLOB", model_blob("Add"))

    assert refusal == b"-NOPERM this user has no permissions to run the '%b' command\r\n" % right.encode()
    assert ends.direct.ask(f"EXISTS {KEY}") == integer(0)


def test_a_user_who_lacks_the_right_to_persist_is_told(ends: Ends) -> None:
    """Only what expires needs it."""
    assert ends.direct.ask("ACL SETUSER limited on nopass ~* +@all -persist") == OK
    assert ends.wire.ask("AUTH limited any") == OK
    store_model(ends.wire, KEY)
    ends.direct.ask(f"EXPIRE {KEY} 1000")

    refusal = ends.wire.ask("AI.MODELSTORE", KEY, "ONNX", "CPU", "BLOB", model_blob("Add"))

    assert refusal == b"-NOPERM this user has no permissions to run the 'persist' command\r\n"


# -- what other clients do meanwhile

USERS = ["default", "limited"]  # the second may not run scripts


def log_in(ends: Ends, user: str) -> None:
    assert ends.direct.ask("ACL SETUSER limited on nopass ~* +@all -eval") == OK
    assert ends.wire.ask(f"AUTH {user} any") == OK


@pytest.mark.parametrize("user", USERS)
def test_what_an_older_model_has_left_is_cleared(ends: Ends, user: str) -> None:
    log_in(ends, user)
    store_model(ends.wire, KEY, "Add")
    ends.direct.send(f"HSET {KEY} {LEFT_OVER} more", f"EXPIRE {KEY} 1000")
    assert ends.direct.replies(2) == [integer(1), integer(1)]

    store_model(ends.wire, KEY, "Mul")

    assert ends.direct.ask(f"HEXISTS {KEY} {LEFT_OVER}") == integer(0)
    assert ends.direct.ask(f"TTL {KEY}") == integer(-1)


@pytest.mark.parametrize("user", USERS)
def test_a_larger_model_of_another_client_is_not_cut(ends: Ends, user: str) -> None:
    """It is stored when the first one's was written, and what an older one has left is about to be cleared."""
    log_in(ends, user)
    store_model(ends.wire, "another", "Mul")
    ends.direct.ask(f"HSET another {LEFT_OVER} more")
    store_model(ends.wire, KEY, "Add")
    ends.before(b"EVAL", lambda: ends.direct.ask(f"COPY another {KEY} REPLACE"))

    store_model(ends.wire, KEY, "Add")

    assert ends.direct.ask(f"HEXISTS {KEY} {LEFT_OVER}") == integer(1)
    assert predict(ends.wire, KEY, 3, 4) == 12


@pytest.mark.slow
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("stores_another", [True, False])
def test_what_another_client_stores_is_not_taken_back(tmp_path: Path, user: str, *, stores_another: bool) -> None:
    """A large model was written, but can't be loaded: the engine's process may take less memory than a trial."""
    with started(tmp_path) as servers, clients(*servers) as ends:
        log_in(ends, user)
        store_model(ends.wire, "another", "Mul")
        if stores_another:
            ends.before(b"EVAL", lambda: ends.direct.ask(f"COPY another {KEY} REPLACE"))
        with too_little_memory(ends.engine):
            refusal = ends.wire.ask("AI.MODELSTORE", KEY, "ONNX", "CPU", "BLOB", weighty())

        assert b"bad_alloc" in refusal
        assert predict(ends.wire, KEY, 3, 4) == (12 if stores_another else MISSING)


# -- what ends meanwhile


def test_an_engine_stores_again_once_a_redis_that_died_is_back(tmp_path: Path) -> None:
    """The client sees the end of its connection, as that of Redis would."""
    with started(tmp_path) as servers, clients(*servers) as ends:
        ends.before(b"HSET", ends.redis.process.kill)
        ends.wire.send(("AI.MODELSTORE", KEY, "ONNX", "CPU", "BLOB", model_blob("Add")))

        assert ends.wire.rest() == b""
        ends.redis.process.wait()
        redis = start_redis(tmp_path / "redis", *REDIS, port=ends.redis.port)
        with clients(ends.engine, redis, ends.between) as later:
            assert predict(later.wire, KEY, 3, 4) == MISSING
            store_model(later.wire, KEY, "Add")
            assert predict(later.wire, KEY, 3, 4) == 7
        redis.stop()


@pytest.mark.slow
def test_what_a_redis_that_died_has_lost_is_not_served(tmp_path: Path) -> None:
    """It dies when it has a large model, which is still being loaded."""
    with started(tmp_path) as servers, clients(*servers) as ends:
        ends.wire.send(("AI.MODELSTORE", KEY, "ONNX", "CPU", "BLOB", padded(onnx_faults.slow_load(8))))
        wait_until(lambda: ends.direct.ask(f"EXISTS {KEY}") == integer(1), what="the model in Redis")
        ends.redis.process.kill()

        assert ends.wire.rest() == b""
        ends.redis.process.wait()
        redis = start_redis(tmp_path / "redis", *REDIS, port=ends.redis.port)
        with clients(ends.engine, redis, ends.between) as later:
            assert predict(later.wire, KEY, 3, 4) == MISSING
            store_onnx(later.wire, KEY, padded(model_blob("Add")))
            assert predict(later.wire, KEY, 3, 4) == 7
        redis.stop()
