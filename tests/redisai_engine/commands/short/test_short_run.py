"""The short way of AI.MODELEXECUTE answers as the ordinary way does, and leaves the same behind in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.connection import Connect, Connection
from support.gateway import Pair, run_count, store_model, store_onnx
from support.replies import OK, error
from support.shared_connections import APART, Watching
from support.transcripts import recorded_model
from support.waiting import wait_until

FLOATS = "AI.TENSORSET short:%s FLOAT %d VALUES %s"
GOOD = (FLOATS % ("a", 2, "1 2"), FLOATS % ("b", 2, "10 20"))
RUN = "AI.MODELEXECUTE short:sum INPUTS 2 short:a short:b OUTPUTS 1 short:y"
KEYS = ("short:a", "short:b", "short:y")

#: Commands that set the stage, and the request.
CASES: dict[str, tuple[tuple[str | tuple[str | bytes | int, ...], ...], str]] = {
    "all well": (GOOD, RUN),
    "an output that is a tensor": ((*GOOD, FLOATS % ("y", 1, "7")), RUN),
    "an output that will expire": ((*GOOD, FLOATS % ("y", 1, "7"), "EXPIRE short:y 100"), RUN),
    "an output that is an empty string": ((*GOOD, ("SET", "short:y", "")), RUN),
    "an output that is a string": ((*GOOD, "SET short:y abc"), RUN),
    "an output that is a list": ((*GOOD, "RPUSH short:y abc"), RUN),
    "an input that is the output": (GOOD, RUN.replace("short:y", "short:a")),
    "one key for both inputs": (GOOD, RUN.replace("short:b", "short:a")),
    "no first input": (GOOD[1:], RUN),
    "no second input": (GOOD[:1], RUN),
    "an input that is a string": ((*GOOD, "SET short:a abc"), RUN),
    "an input that is a list": ((*GOOD[1:], "RPUSH short:a abc"), RUN),
    "an input cut short": ((*GOOD, "SETRANGE short:a 12 abcd"), RUN),
    "an input with bytes behind it": ((*GOOD, "APPEND short:a x"), RUN),
    "an input of another type": ((*GOOD, "AI.TENSORSET short:a DOUBLE 2 VALUES 1 2"), RUN),
    "an input of text": ((*GOOD, ("AI.TENSORSET", "short:a", "STRING", 2, "VALUES", "a", "b")), RUN),
    "an input of truth values": ((*GOOD, "AI.TENSORSET short:a BOOL 2 VALUES 1 0"), RUN),
    "a scalar": ((*GOOD, ("AI.TENSORSET", "short:a", "FLOAT", "BLOB", b"\0\0\0\0")), RUN),
    "inputs that don't fit": ((*GOOD, FLOATS % ("b", 3, "1 2 3")), RUN),
    "large tensors": (("AI.TENSORSET short:a FLOAT 40000", "AI.TENSORSET short:b FLOAT 40000"), RUN),
    "too many inputs": (GOOD, RUN.replace("2 short:a", "3 short:a short:a")),
    "too many outputs": (GOOD, RUN.replace("1 short:y", "2 short:y short:z")),
    "a wrong count": (GOOD, RUN.replace("1 short:y", "3 short:y")),
    "words behind it": (GOOD, f"{RUN} NONSENSE"),
    "a TIMEOUT": (GOOD, f"{RUN} TIMEOUT 60000"),
    "a wrong TIMEOUT": (GOOD, f"{RUN} TIMEOUT 0"),
    "lower case": (GOOD, RUN.lower()),
}


@pytest.fixture(autouse=True)
def no_tensors(direct: Connection) -> None:
    direct.ask("DEL", *KEYS)


@pytest.fixture
def summing(wire: Connection) -> Iterator[str]:
    store_model(wire, "short:sum")
    yield "short:sum"
    wire.ask("AI.MODELDEL short:sum")


@pytest.fixture(params=["its own connection", "the shared connection"])
def short(
    summing: str, direct: Connection, connect: Connect, pair: Pair, request: pytest.FixtureRequest
) -> Callable[[], Connection]:
    """Return a function that opens a connection whose next run takes the short way."""

    def open_one() -> Connection:
        opened = connect(pair.engine)
        for command in GOOD:
            assert opened.ask(command) == OK
        if request.param == "the shared connection":
            Watching(pair.redis, connect).until_shared(opened, RUN, "short:y")
        else:
            opened.ask(APART)
            wait_until(lambda: is_short(opened, direct), what="the short way")
        return opened

    return open_one


def is_short(opened: Connection, direct: Connection) -> bool:
    """Return whether a run asks Redis only about tensors."""

    def asked() -> int:
        told = direct.ask("INFO commandstats")
        return int((told.partition(b"cmdstat_hmget:calls=")[2].partition(b",")[0]) or b"0")

    assert opened.ask(RUN) == OK
    before = asked()
    assert opened.ask(RUN) == OK
    return asked() == before


def state(direct: Connection) -> list[bytes]:
    return [direct.ask(f"{word} {key}") for key in KEYS for word in ("DUMP", "EXPIRETIME")]


def outcome(opened: Connection, direct: Connection, case: str) -> tuple[bytes, list[bytes]]:
    """Return the reply, and what is in Redis after it."""
    stage, request = CASES[case]
    direct.ask("DEL", *KEYS)
    for words in stage:
        opened.ask(*([words] if isinstance(words, str) else words))
    return opened.ask(request), state(direct)


@pytest.mark.parametrize("case", CASES)
def test_both_ways_answer_alike(
    short: Callable[[], Connection], connect: Connect, pair: Pair, direct: Connection, case: str
) -> None:
    """A connection whose right to the model isn't known takes the ordinary way."""
    assert outcome(short(), direct, case) == outcome(connect(pair.engine), direct, case)


def test_a_run_counts_once(short: Callable[[], Connection]) -> None:
    opened = short()
    before = run_count(opened, "short:sum")

    assert [opened.ask(RUN) for _ in range(5)] == [OK] * 5
    assert run_count(opened, "short:sum") == before + 5


def test_a_pipeline_sees_what_it_wrote_itself(short: Callable[[], Connection]) -> None:
    """The three commands in one write, mixed with plain ones."""
    opened = short()

    for first in range(20):
        opened.send(
            FLOATS % ("a", 2, f"{first} 2"),
            "DEL short:y",
            RUN,
            "AI.TENSORGET short:y VALUES",
            "RENAME short:y short:a",
            RUN,
            "AI.TENSORGET short:y VALUES",
        )
        got = opened.replies(7)
        assert [got[0], got[2], got[4], got[5]] == [OK] * 4
        assert got[3] == b"*2\r\n" + bulk_of(first + 10) + bulk_of(22)
        assert got[6] == b"*2\r\n" + bulk_of(first + 20) + bulk_of(42)


def bulk_of(number: int) -> bytes:
    text = b"%d" % number
    return b"$%d\r\n%b\r\n" % (len(text), text)


def test_a_model_stored_anew_is_the_one_that_runs(short: Callable[[], Connection], wire: Connection) -> None:
    opened = short()
    store_model(wire, "short:sum", "Mul")

    assert opened.ask(RUN) == OK
    assert opened.ask("AI.TENSORGET short:y VALUES") == b"*2\r\n$2\r\n10\r\n$2\r\n40\r\n"


def test_a_run_that_fails_answers_alike(wire: Connection, connect: Connect, pair: Pair) -> None:
    store_onnx(wire, "short:failing", recorded_model("bad_reshape.onnx"))
    wire.ask(FLOATS % ("a", 5, "1 2 3 4 5"))
    request = "AI.MODELEXECUTE short:failing INPUTS 1 short:a OUTPUTS 1 short:y"

    answers = {wire.ask(request) for _ in range(5)} | {connect(pair.engine).ask(request)}

    assert len(answers) == 1
    assert answers.pop().startswith(b"-Non-zero status code returned while running Reshape")


def test_a_client_that_may_not_write_the_output(
    short: Callable[[], Connection], wire: Connection, direct: Connection, connect: Connect, pair: Pair
) -> None:
    short()
    direct.ask("ACL", "SETUSER", "runner", "reset", "on", "nopass", "+@all", "%R~short:*", "%RW~short:free*")
    allowed = RUN.replace("short:y", "short:free")
    opened = connect(pair.engine)
    try:
        assert opened.ask("AUTH runner any") == OK
        assert {opened.ask(allowed) for _ in range(3)} == {OK}
        refused = opened.ask(RUN)
        assert refused.startswith(b"-NOPERM ")
        fresh = connect(pair.engine)
        assert fresh.ask("AUTH runner any") == OK
        assert fresh.ask(RUN) == refused
    finally:
        direct.ask("ACL DELUSER runner")


def test_redis_without_memory_refuses_the_output(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair()
    opened, direct = connect(pair.engine), connect(pair.redis)
    store_model(opened, "short:sum")
    for command in (*GOOD, RUN, RUN):
        assert opened.ask(command) == OK
    direct.ask("CONFIG SET maxmemory 1")

    assert opened.ask(RUN).startswith(b"-OOM ")
    direct.ask("CONFIG SET maxmemory 0")
    assert opened.ask(RUN) == OK


def test_a_connection_that_redis_ends_answers_with_an_error(
    short: Callable[[], Connection], direct: Connection
) -> None:
    opened = short()
    number = opened.ask("CLIENT ID")[1:-2].decode()
    opened.send("MULTI")
    opened.reply()
    opened.send("DISCARD")
    opened.reply()
    assert direct.ask(f"CLIENT KILL ID {number}") == b":1\r\n"
    opened.send(RUN)

    assert opened.rest() in (error("ERR the connection to Redis was lost"), b"")


@pytest.mark.parametrize("mode", ["OFF", "SKIP"])
def test_a_silent_client_gets_no_reply(short: Callable[[], Connection], mode: str) -> None:
    opened = short()
    opened.send(f"CLIENT REPLY {mode}", RUN, "CLIENT REPLY ON", "PING")

    assert opened.replies(2) == [OK, b"+PONG\r\n"]


def test_inside_multi_a_run_is_refused(short: Callable[[], Connection]) -> None:
    opened = short()
    opened.send("MULTI", RUN, "EXEC")
    got = opened.replies(3)

    assert got[:2] == [OK, b"+QUEUED\r\n"]
    assert got[2].startswith(b"*1\r\n-ERR ")


def test_in_another_database_the_model_is_another_one(short: Callable[[], Connection]) -> None:
    opened = short()
    assert opened.ask("SELECT 1") == OK

    assert opened.ask(RUN) == error("ERR model key is empty")


def test_long_names_take_no_short_way(short: Callable[[], Connection]) -> None:
    opened = short()
    key = "short:" + "y" * 5000

    assert opened.ask(RUN.replace("short:y", key)) == OK
    assert opened.ask(f"DEL {key}") == b":1\r\n"
