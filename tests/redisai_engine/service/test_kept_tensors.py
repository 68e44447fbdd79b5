"""
Tensors that the engine keeps in memory are never read old by whoever could know better: one change at a time.

`test_stale_reads.py` has many clients at once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest

from support.connection import Connect, Connection
from support.dawdling import dawdling
from support.freshness import NOTHING
from support.gateway import Pair
from support.int64_tensors import MISSING, Command, blob, setting, store_identity, value
from support.replies import OK, bulk
from support.servers import Server, bundled_redis_server, bundled_valkey_server, redis_server_binary
from support.shared_connections import APART, Watching
from support.waiting import wait_until
from support.workers import connect_to, replace, worker_of, workers_of

SERVERS = list(dict.fromkeys(filter(None, (redis_server_binary(), bundled_redis_server(), bundled_valkey_server()))))


@pytest.fixture(params=SERVERS, ids=lambda path: path.rpartition("/")[2] + str(SERVERS.index(path)))
def redis(new_redis: Callable[..., Server], request: pytest.FixtureRequest) -> Server:
    return new_redis(binary=request.param)


@pytest.fixture
def pair(redis: Server, new_engine: Callable[..., Server]) -> Pair:
    return Pair(new_engine("--redis", redis.url), redis)


WORKERS = ["1", "2"]


@pytest.fixture(params=WORKERS)
def dawdling_engine(redis: Server, new_engine: Callable[..., Server], request: pytest.FixtureRequest) -> Iterator[Pair]:
    with dawdling(redis, seed=1) as url:
        yield Pair(new_engine("--redis", url, "--workers", request.param), redis)


def reads(direct: Connection) -> int:
    """Return how often Redis was asked for a string, apart from what the script asks for that writes a tensor."""
    told = direct.ask("INFO commandstats")
    return _calls(b"get", told) - _calls(b"evalsha", told)


def _calls(command: bytes, told: bytes) -> int:
    found = re.search(rb"cmdstat_%b:calls=(\d+)" % command, told)
    return 0 if found is None else int(found[1])


def sharing(pair: Pair, connect: Connect) -> Connection:
    """Open a connection that is answered from memory, to the first worker if there are several."""
    opened, direct = connect_to(pair.engine, connect, 0), connect(pair.redis)

    def is_kept() -> bool:
        assert opened.ask(*setting("k:0", 1)) == OK
        before = reads(direct)
        assert opened.ask("AI.TENSORGET k:0 BLOB") == bulk(blob(1))
        return reads(direct) == before

    wait_until(is_kept, what="an answer from memory")
    return opened


#: What another client does to the key `k:0`, and what it holds then: a number of an INT64, nothing, or no tensor. In
#: database 1 it holds 2.
SCRIPT = "redis.call('SET', KEYS[1], ARGV[1])"
SWAPPING = "redis.call('SWAPDB', 0, 1)"
CHANGES: dict[str, tuple[list[Command], int | str]] = {
    "AI.TENSORSET": ([setting("k:0", 2)], 2),
    "AI.TENSORSET of a large one": ([("AI.TENSORSET", "k:0", "INT64", 5000, "BLOB", blob(2, 5000))], "large"),
    "AI.TENSORSET VALUES": (["AI.TENSORSET k:0 INT64 1 VALUES 2"], 2),
    "AI.DAGEXECUTE": (["AI.DAGEXECUTE PERSIST 1 k:0 |> AI.TENSORSET k:0 INT64 1 VALUES 2"], 2),
    "SET": ([("SET", "k:0", value(2))], 2),
    "SET with an expiry": ([("SET", "k:0", value(2), "PX", 1)], NOTHING),
    "GETSET": ([("GETSET", "k:0", value(2))], 2),
    "MSET": ([("MSET", "k:0", value(2))], 2),
    "SETRANGE": ([("SETRANGE", "k:0", 48, blob(2))], 2),
    "APPEND": (["APPEND k:0 x"], "no tensor"),
    "DEL": (["DEL k:0"], NOTHING),
    "UNLINK": (["UNLINK k:0"], NOTHING),
    "GETDEL": (["GETDEL k:0"], NOTHING),
    "EXPIRE": (["PEXPIRE k:0 1"], NOTHING),
    "EXPIREAT": (["EXPIREAT k:0 1"], NOTHING),
    "RENAME": ([("SET", "k:1", value(2)), "RENAME k:1 k:0"], 2),
    "RENAME to another": (["RENAME k:0 k:1"], NOTHING),
    "COPY": (["SET k:1 x", "COPY k:1 k:0 REPLACE"], "no tensor"),
    "MOVE": (["MOVE k:0 2"], NOTHING),
    "SORT": (["RPUSH k:1 x", "SORT k:1 BY nosort STORE k:0"], "no tensor"),
    "HSET": (["DEL k:0", "HSET k:0 f v"], "no tensor"),
    "EVAL": ([("EVAL", SCRIPT, 1, "k:0", value(2))], 2),
    "EVAL of keys that aren't named": ([("EVAL", SCRIPT.replace("KEYS[1]", "'k:0'"), 0, value(2))], 2),
    "MULTI": (["MULTI", ("SET", "k:0", value(2)), "EXEC"], 2),
    "MULTI with AI.TENSORSET": (["MULTI", setting("k:0", 2), "EXEC"], 2),
    "FLUSHDB": (["FLUSHDB"], NOTHING),
    "FLUSHALL ASYNC": (["FLUSHALL ASYNC"], NOTHING),
    "SWAPDB": (["SWAPDB 0 1"], 2),
    "SWAPDB in MULTI": (["MULTI", "SWAPDB 0 1", "EXEC"], 2),
    "SWAPDB in a script": ([("EVAL", SWAPPING, 0)], 2),
    "from another database": (["SELECT 1", ("SET", "k:0", value(2)), "MOVE k:0 3", "SELECT 0", "DEL k:0"], NOTHING),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_client_was_told_is_what_is_read(pair: Pair, connect: Connect, change: str) -> None:
    is_what_is_read(change, sharing(pair, connect), connect(pair.engine), connect(pair.redis))


def test_what_another_workers_client_was_told_is_what_is_read(
    redis: Server, new_engine: Callable[..., Server], connect: Connect
) -> None:
    engine = new_engine("--redis", redis.url, "--workers", "2")
    opened, other, direct = sharing(Pair(engine, redis), connect), connect_to(engine, connect, 1), connect(redis)
    for change in CHANGES:
        is_what_is_read(change, opened, other, direct)


@pytest.mark.slow
def test_a_worker_that_takes_anothers_place_counts_as_well(
    redis: Server, new_engine: Callable[..., Server], connect: Connect
) -> None:
    engine = new_engine("--redis", redis.url, "--workers", "2")
    opened, direct = sharing(Pair(engine, redis), connect), connect(redis)
    keeping = worker_of(engine, opened)
    for change in ("AI.TENSORSET", "SET", "SWAPDB"):
        (dying,) = set(workers_of(engine)) - {keeping}
        replace(engine, dying)
        (successor,) = set(workers_of(engine)) - {keeping}
        other = connect_to(engine, connect, workers_of(engine).index(successor))
        is_what_is_read(change, opened, other, direct)


def is_what_is_read(change: str, opened: Connection, other: Connection, direct: Connection) -> None:
    """Assert that one client reads what another one has changed. `direct` is none of the engine's."""
    commands, expected = CHANGES[change]
    for number in range(20):
        other.ask("SELECT 0")
        direct.send("FLUSHALL", "SELECT 1", ("SET", "k:0", value(2)), "SELECT 0")
        direct.replies(4)
        for _ in range(3):  # it is kept once nothing has been heard from elsewhere
            assert opened.ask(*setting("k:0", number + 100)) == OK
        assert opened.ask("AI.TENSORGET k:0 BLOB") == bulk(blob(number + 100))
        for command in commands:
            other.send(command)
        answers = other.replies(len(commands))
        assert not any(answer.startswith(b"-") for answer in answers), answers
        if "PX" in commands[0] or "PEXPIRE" in commands[0]:
            wait_until(lambda: direct.ask("EXISTS k:0") == b":0\r\n", what="the expiry")
        assert opened.ask(*setting("k:9", 1)) == OK  # after its answer, what Redis would have told has been told

        got = opened.ask("AI.TENSORGET k:0 BLOB")

        if expected == NOTHING:
            assert got == MISSING
        elif expected == "no tensor":
            assert got.startswith(b"-")
        else:
            assert got == bulk(blob(2, 5000 if expected == "large" else 1))


def test_restored(pair: Pair, connect: Connect) -> None:
    opened, other, direct = sharing(pair, connect), connect(pair.engine), connect(pair.redis)
    assert direct.ask("SET", "k:1", value(2)) == OK
    dump = direct.ask("DUMP k:1").partition(b"\r\n")[2][:-2]

    assert other.ask("RESTORE", "k:0", "0", dump, "REPLACE") == OK

    assert opened.ask("AI.TENSORGET k:0 BLOB") == bulk(blob(2))


@pytest.mark.parametrize("reading", ["GET k:0", "AI.TENSORGET k:0 BLOB"])
def test_what_one_client_has_read_others_read_as_well(dawdling_engine: Pair, connect: Connect, reading: str) -> None:
    """Somebody changes the key past the engine, and one client has seen that on its own connection, at any worker."""
    opened, other = sharing(dawdling_engine, connect), connect_to(dawdling_engine.engine, connect, 1)
    direct = connect(dawdling_engine.redis)
    other.ask(APART)
    for number in range(100):
        for _ in range(3):
            assert opened.ask(*setting("k:0", number)) == OK
        assert direct.ask("SET", "k:0", value(number + 1000)) == OK
        seen = bulk(blob(number + 1000) if reading.startswith("AI.") else value(number + 1000))
        wait_until(lambda expected=seen: other.ask(reading) == expected, what="the change")

        assert opened.ask("AI.TENSORGET k:0 BLOB") == bulk(blob(number + 1000))


def test_a_change_past_the_engine_is_soon_seen(pair: Pair, connect: Connect) -> None:
    opened, direct = sharing(pair, connect), connect(pair.redis)
    for number in range(2, 50):
        assert direct.ask("SET", "k:0", value(number)) == OK
        expected = bulk(blob(number))
        wait_until(lambda told=expected: opened.ask("AI.TENSORGET k:0 BLOB") == told, timeout_s=0.5, what="the change")


def test_databases_that_are_swapped_past_the_engine_are_seen_within_a_second(pair: Pair, connect: Connect) -> None:
    """Redis doesn't tell of that."""
    opened, direct = sharing(pair, connect), connect(pair.redis)
    direct.ask("SELECT 1")
    direct.ask("SET", "k:0", value(2))
    direct.ask("SWAPDB 0 1")

    wait_until(lambda: opened.ask("AI.TENSORGET k:0 BLOB") == bulk(blob(2)), timeout_s=3, what="the other database")


@pytest.mark.parametrize("workers", WORKERS)
def test_nothing_is_kept_by_a_strict_engine(
    redis: Server, new_engine: Callable[..., Server], connect: Connect, workers: str
) -> None:
    opened = connect(new_engine("--redis", redis.url, "--strict", "--workers", workers))
    direct = connect(redis)
    for _ in range(10):
        assert opened.ask(*setting("k:0", 1)) == OK
        before = reads(direct)
        assert opened.ask("AI.TENSORGET k:0 BLOB") == bulk(blob(1))
        assert reads(direct) == before + 1


def test_a_redis_that_refuses_tracking_is_asked(
    redis: Server, new_engine: Callable[..., Server], connect: Connect
) -> None:
    direct = connect(redis)
    assert direct.ask("ACL SETUSER default -client") == OK
    opened = connect(new_engine("--redis", redis.url))
    for _ in range(10):
        assert opened.ask(*setting("k:0", 1)) == OK
        before = reads(direct)
        assert opened.ask("AI.TENSORGET k:0 BLOB") == bulk(blob(1))
        assert reads(direct) == before + 1


def test_a_lost_connection_takes_what_is_kept_with_it(pair: Pair, connect: Connect) -> None:
    opened, direct = sharing(pair, connect), connect(pair.redis)
    watching = Watching(pair.redis, connect)
    (address,) = watching.shared_addresses()
    for number in range(20):
        direct.send(f"CLIENT KILL ADDR {address.decode()}", ("SET", "k:0", value(number)))
        direct.replies(2)

        expected = bulk(blob(number))
        wait_until(lambda told=expected: opened.ask("AI.TENSORGET k:0 BLOB") == told, timeout_s=0.5, what="the change")


@pytest.mark.parametrize("workers", WORKERS)
def test_three_commands_one_after_another_ask_redis_twice(
    redis: Server, new_engine: Callable[..., Server], connect: Connect, workers: str
) -> None:
    opened = connect(new_engine("--redis", redis.url, "--workers", workers))
    watching = Watching(redis, connect)
    store_identity(opened, "same")

    def asked(number: int) -> list[bytes]:
        watching.since()
        assert opened.ask(*setting("x", number)) == OK
        assert opened.ask("AI.MODELEXECUTE same INPUTS 1 x OUTPUTS 1 y") == OK
        assert opened.ask("AI.TENSORGET y BLOB") == bulk(blob(number))
        return [words.split()[0] for sender, words in watching.since() if sender in watching.shared_addresses()]

    numbers = iter(range(10_000))
    script = [b'"EVALSHA"', b'"GETRANGE"', b'"SET"', b'"GET"']
    wait_until(lambda: asked(next(numbers)) == script * 2, what="inputs and outputs from memory")


def test_what_is_only_written_is_not_read_back(pair: Pair, connect: Connect) -> None:
    opened, direct = sharing(pair, connect), connect(pair.redis)

    def gets(times: int) -> int:
        before = _calls(b"get", direct.ask("INFO commandstats"))
        for number in range(times):
            assert opened.ask(*setting("k:0", number)) == OK
        return _calls(b"get", direct.ask("INFO commandstats")) - before

    gets(20)
    assert gets(20) == 0


@pytest.mark.parametrize("rule", ["-pttl", "-get"])
def test_a_user_who_may_not_ask_for_more_is_refused_once(pair: Pair, connect: Connect, rule: str) -> None:
    """ACL LOG doesn't fill with what the engine asks for keeping tensors."""
    opened, direct = sharing(pair, connect), connect(pair.redis)
    assert direct.ask("ACL", "SETUSER", "default", rule) == OK
    for number in range(30):
        assert opened.ask(*setting("k:0", number)) == OK
        if rule == "-pttl":
            assert opened.ask("ECHO something") == bulk("something")
            assert opened.ask("AI.TENSORGET k:0 BLOB") == bulk(blob(number))

    noted = direct.ask("ACL LOG")
    assert sum(map(int, re.findall(rb"\r\ncount\r\n:(\d+)\r\n", noted))) == 1


def test_what_expires_is_not_kept_beyond_that(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], connect: Connect
) -> None:
    """Redis tells when it deletes the key, which it may put off."""
    binary = bundled_redis_server()
    if binary is None:
        pytest.skip("later versions don't let clients put that off")
    redis = new_redis(binary=binary)
    opened, direct = sharing(Pair(new_engine("--redis", redis.url), redis), connect), connect(redis)
    assert direct.ask("DEBUG SET-ACTIVE-EXPIRE 0") == OK
    assert direct.ask("SET", "k:0", value(2), "PX", 50) == OK

    answers = [opened.ask("AI.TENSORGET k:0 BLOB") for _ in range(20)]  # it would be kept by now
    assert {bulk(blob(2)), MISSING} >= set(answers)
    time.sleep(0.05)  # whoever asks Redis whether it has expired has it deleted, and that told
    assert opened.ask("AI.TENSORGET k:0 BLOB") == MISSING
