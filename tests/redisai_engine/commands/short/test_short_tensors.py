"""The short ways of AI.TENSORSET and AI.TENSORGET answer as the ordinary ways do."""

from __future__ import annotations

import numpy as np
import pytest

from redisai_engine.commands.tensor_script import LARGEST
from support.connection import Connect, Connection
from support.gateway import Pair
from support.replies import OK, bulk, tensor

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
