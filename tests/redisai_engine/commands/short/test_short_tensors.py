"""The short ways of AI.TENSORSET and AI.TENSORGET answer as the ordinary ways do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from redisai_engine.commands.tensor_script import LARGEST
from support.connection import Connect, Connection
from support.gateway import Pair
from support.replies import OK, bulk, tensor
from support.servers import Server
from support.shared_connections import APART, HOLD, Watching, forget_tensors, named_line
from support.waiting import wait_until

NUMBERS = {
    "FLOAT": "<f4",
    "DOUBLE": "<f8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
}
BLOB = b"\x07\0\0\0\x08\0\0\0"
HEADER_AT, BLOB_AT = 12, 48  # where a header has its size, and where the blob of a small one starts

SET, GET = "AI.TENSORSET short:x INT32 1 BLOB abcd", "AI.TENSORGET short:x BLOB"

#: What is done to the key before it is read.
STATES: dict[str, tuple[tuple[str | bytes | int, ...], ...]] = {
    "a tensor": (),
    "no key": (("DEL", "short:x"),),
    "a string": (("SET", "short:x", "abc"),),
    "an empty string": (("SET", "short:x", ""),),
    "a list": (("DEL", "short:x"), ("RPUSH", "short:x", "abc")),
    "a hash": (("DEL", "short:x"), ("HSET", "short:x", "field", "value")),
    "a string that begins like one": (("SET", "short:x", b"\0AITENS\x01"),),
    "a header without an end": (("SETRANGE", "short:x", HEADER_AT, b"\xff\xff\xff\xff"),),
    "a header that is too small": (("SETRANGE", "short:x", HEADER_AT, b"\x01\0\0\0"),),
    "another size of the header": (("SETRANGE", "short:x", HEADER_AT, b"\x40\0\0\0"),),
    "another version": (("SETRANGE", "short:x", 7, b"\x02"),),
    "an unknown type": (("SETRANGE", "short:x", 8, b"\x63"),),
    "many dimensions": (("SETRANGE", "short:x", 9, b"\xff"),),
    "a negative dimension": (("SETRANGE", "short:x", 16, b"\xff" * 8),),
    "a huge dimension": (("SETRANGE", "short:x", 16, b"\xff\xff\xff\xff\xff\xff\xff\x7f"),),
    "bytes behind it": (("APPEND", "short:x", "x"),),
    "a blob cut short": (("SETRANGE", "short:x", BLOB_AT + 12, "x"),),
    "text": (("AI.TENSORSET", "short:x", "STRING", 2, "VALUES", "a", "b"),),
    "truth values": (("AI.TENSORSET", "short:x", "BOOL", 2, "VALUES", 1, 0),),
    "a scalar": (("AI.TENSORSET", "short:x", "FLOAT", "BLOB", b"\0\0\x80\x3f"),),
    "a large one": (("AI.TENSORSET", "short:x", "FLOAT", 50_000),),
}


@pytest.fixture(autouse=True)
def no_tensor(direct: Connection) -> None:
    direct.ask("DEL", "short:x")


def shared_by(opened: Connection, watching: Watching) -> Connection:
    """Have a client's short ways go over the shared connection."""
    wait_until(lambda: watching.is_shared(opened, SET, '"EVALSHA"'), what="the shared connection")
    return opened


@pytest.fixture(params=["its own connection", "the shared connection"])
def wire(pair: Pair, connect: Connect, request: pytest.FixtureRequest) -> Connection:
    opened = connect(pair.engine)
    if request.param == "the shared connection":
        shared_by(opened, Watching(pair.redis, connect))
    else:
        opened.ask(APART)
    return opened


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("state", STATES)
def test_reading_answers_alike_both_ways(wire: Connection, state: str, protocol: int) -> None:
    """Formats in another letter case, or in another order, take the ordinary way."""
    wire.ask(f"HELLO {protocol}")
    assert wire.ask("AI.TENSORSET", "short:x", "INT32", 2, "BLOB", BLOB) == OK
    for command in STATES[state]:
        wire.ask(*command)

    whole = {wire.ask(f"AI.TENSORGET short:x{words}") for words in ("", " META BLOB", " BLOB META", " meta blob")}
    blobs = {wire.ask(f"AI.TENSORGET short:x {word}") for word in ("BLOB", "blob")}

    assert (len(whole), len(blobs)) == (1, 1)


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_set_is_what_is_read(wire: Connection, direct: Connection, name: str) -> None:
    values = np.arange(6, dtype=NUMBERS[name]).reshape(2, 3)

    assert wire.ask("AI.TENSORSET", "short:x", name, 2, 3, "BLOB", values.tobytes()) == OK
    shortly = direct.ask("DUMP short:x")
    assert wire.ask("AI.TENSORGET short:x") == tensor(name, (2, 3), values.tobytes())
    assert wire.ask("AI.TENSORSET", "short:x", name, 2, 3, "VALUES", *range(6)) == OK
    assert direct.ask("DUMP short:x") == shortly


@pytest.mark.parametrize("size", [0, 1, 7, 9, 16])
def test_a_known_form_with_a_blob_of_another_size_is_refused(wire: Connection, direct: Connection, size: int) -> None:
    assert wire.ask("AI.TENSORSET", "short:x", "INT32", 2, "BLOB", BLOB) == OK
    before = direct.ask("DUMP short:x")

    assert wire.ask("AI.TENSORSET", "short:x", "INT32", 2, "BLOB", b"x" * size).startswith(b"-ERR ")
    assert direct.ask("DUMP short:x") == before


@pytest.mark.parametrize(("size", "scripts"), [(LARGEST - BLOB_AT, 1), (LARGEST - BLOB_AT + 1, 0)])
def test_only_a_small_value_is_set_by_the_script(wire: Connection, direct: Connection, size: int, scripts: int) -> None:
    def calls() -> int:
        told = direct.ask("INFO commandstats").partition(b"cmdstat_evalsha:calls=")[2]
        return int(told.partition(b",")[0] or b"0")

    wire.ask("AI.TENSORSET", "short:x", "INT8", 1, "BLOB", b"x")
    before = calls()

    assert wire.ask("AI.TENSORSET", "short:x", "INT8", size, "BLOB", b"x" * size) == OK
    assert wire.ask("AI.TENSORGET short:x BLOB") == bulk(b"x" * size)
    assert calls() == before + scripts


def test_a_word_that_holds_two_is_not_taken_for_two(wire: Connection) -> None:
    assert wire.ask("AI.TENSORSET", "short:x", "INT8", 4, 2, "BLOB", BLOB) == OK

    assert wire.ask("AI.TENSORSET", "short:x", "INT8", "4 2", "BLOB", BLOB).startswith(b"-ERR ")


def test_truth_values_are_checked(wire: Connection) -> None:
    """RedisAI leaves the last byte unchecked."""
    for _ in range(3):
        assert wire.ask("AI.TENSORSET", "short:x", "BOOL", 3, "BLOB", b"\0\1\0") == OK
        assert wire.ask("AI.TENSORSET", "short:x", "BOOL", 3, "BLOB", b"\2\1\0").startswith(b"-ERR ")


def test_reading_ahead_of_other_requests_keeps_their_order(wire: Connection) -> None:
    """AI.TENSORGET doesn't hold up what is behind it, and sees what is before it."""
    blobs = [bytes([number]) * 8 for number in range(50)]
    for blob in blobs:
        wire.send(("AI.TENSORSET", "short:x", "INT32", 2, "BLOB", blob), "AI.TENSORGET short:x BLOB", "STRLEN short:x")

    got = wire.replies(3 * len(blobs))

    assert got[1::3] == [b"$8\r\n%b\r\n" % blob for blob in blobs]
    assert set(got[::3]) == {OK}
    assert set(got[2::3]) == {b":56\r\n"}


def test_a_user_who_may_not_read_is_refused_by_redis(pair: Pair, connect: Connect, direct: Connection) -> None:
    direct.ask("ACL", "SETUSER", "writer", "reset", "on", "nopass", "+@all", "%W~short:*")
    try:
        opened = connect(pair.engine)
        assert opened.ask("AUTH writer any") == OK
        answers = {opened.ask(f"AI.TENSORGET short:x{words}") for words in ("", " BLOB META")}
        assert len(answers) == 1
        assert answers.pop().startswith(b"-NOPERM ")
    finally:
        direct.ask("ACL DELUSER writer")


@pytest.fixture
def watching(pair: Pair, connect: Connect) -> Watching:
    return Watching(pair.redis, connect)


@pytest.fixture
def sharing(pair: Pair, connect: Connect, watching: Watching) -> Connection:
    """A connection whose short ways go over the shared one, for almost a second."""
    shared_by(connect(pair.engine), watching)  # it may find that there is no shared connection yet
    return shared_by(connect(pair.engine), watching)


def test_a_small_tensor_is_set_and_read_over_the_shared_connection(sharing: Connection, watching: Watching) -> None:
    forget_tensors(sharing)
    assert watching.is_shared(sharing, GET, '"GET"')
    assert sharing.ask(GET) == bulk(b"abcd")


def test_a_pipeline_of_readings_waits_for_none_of_them(sharing: Connection, watching: Watching) -> None:
    """On the client's own connection they are sent together."""
    forget_tensors(sharing)
    watching.since()
    sharing.send(*[GET] * 5)

    assert sharing.replies(5) == [bulk(b"abcd")] * 5
    senders = [who for who, words in watching.since() if words.startswith(b'"GET"')]
    assert [who in watching.shared_addresses() for who in senders] == [False] * 4 + [True]


def test_a_key_that_others_have_made_large_is_read_apart(sharing: Connection, watching: Watching) -> None:
    blob = b"x" * 40_000
    assert sharing.ask("AI.TENSORSET", "short:large", "INT8", len(blob), "BLOB", blob) == OK
    assert watching.direct.ask("RENAME short:large short:x") == OK

    assert sharing.ask(GET) == bulk(blob)
    assert not watching.is_shared(sharing, GET, '"GET"')


def test_whoever_has_not_been_let_in_lately_asks_alone(
    sharing: Connection, pair: Pair, connect: Connect, watching: Watching
) -> None:
    """The key is known to be small, and another client uses the shared connection."""
    opened = connect(pair.engine)

    assert not watching.is_shared(opened, GET, '"GET"')


def test_a_password_keeps_others_from_what_is_shared(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair()
    watching = Watching(pair.redis, connect)
    opened = shared_by(connect(pair.engine), watching)
    assert watching.direct.ask("CONFIG SET requirepass secret") == OK

    late = connect(pair.engine)
    assert [late.ask(command)[:8] for command in (SET, GET) * 3] == [b"-NOAUTH "] * 6
    assert [opened.ask(command) for command in (SET, GET)] == [OK, bulk(b"abcd")]


@pytest.mark.parametrize("deed", ["before", "within", "after", "in the reply"])
@pytest.mark.parametrize("command", [SET, GET], ids=["set", "read"])
def test_the_shared_connection_is_cut(
    new_redis: Callable[..., Server],
    new_engine: Callable[..., Server],
    connect: Connect,
    deed: str,
    command: str,
) -> None:
    """A tensor is read again on the client's own. It is never set twice: the client's connection ends."""
    redis = new_redis()
    with named_line(redis, deed) as line:
        engine = new_engine("--redis", line.url)
        watching = Watching(redis, connect)
        shared_by(connect(engine), watching)
        opened = shared_by(connect(engine), watching)
        forget_tensors(opened)
        watching.since()

        line.arm(b"GET" if command == GET else b"EVALSHA")
        opened.send(command)

        if command == GET:
            assert opened.reply() == bulk(b"abcd")
            assert opened.ask(SET) == OK
        else:
            assert opened.ends()
            sets = [words for _, words in watching.since() if words.startswith(b'"EVALSHA"')]
            assert len(sets) == (deed in ("after", "in the reply"))
        assert line.is_done
        assert connect(engine).ask(GET) == bulk(b"abcd")


#: What is held on its way to Redis, what a client sends, and what it gets.
ORDERS = {
    "a reading is late": (b"GET", (GET, "DEL short:x"), [bulk(b"abcd"), b":1\r\n"]),
    "a writing is late": (b"EVALSHA", (SET.replace("abcd", "efgh"), "STRLEN short:x"), [OK, b":52\r\n"]),
    "a plain command before a reading": (b"SETRANGE", ("SETRANGE short:x 48 efgh", GET), [b":52\r\n", bulk(b"efgh")]),
    "one before a writing": (b"DEL", ("DEL short:x", SET, GET), [b":1\r\n", OK, bulk(b"abcd")]),
}


@pytest.mark.parametrize("order", ORDERS)
def test_no_request_of_a_client_overtakes_another(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], connect: Connect, order: str
) -> None:
    """Not even if one of its two connections is slow."""
    held, commands, replies = ORDERS[order]
    redis = new_redis()
    with named_line(redis, HOLD) as line:
        engine = new_engine("--redis", line.url)
        watching = Watching(redis, connect)
        other = shared_by(connect(engine), watching)
        opened = shared_by(connect(engine), watching)
        forget_tensors(other)

        line.arm(held)
        for command in commands:
            opened.send(command)
            wait_until(lambda: line.is_done, what="the request that is held")
            assert other.ask("ECHO x") == bulk(b"x")  # the engine has read what was sent before
        line.release()

        assert opened.replies(len(commands)) == replies
