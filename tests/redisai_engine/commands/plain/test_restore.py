"""RESTORE of payloads from RedisAI's DUMP, and MIGRATE from a RedisAI, which sends RESTORE."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator

import pytest

from redisai_engine.protocol import texts
from redisai_engine.protocol.frames import ReplyError
from support import dumps
from support.servers import Server
from support.tiny_models import product_and_sum
from support.waiting import wait_until
from support.wire import Wire

TENSOR = dumps.float_tensor((2,), struct.pack("<2f", 1, 2.5))
MODEL = dumps.model("ONNX", product_and_sum("ONNX").blob, tag="moved", inputs=("a", "b"), outputs=("product", "sum"))
OTHER_MODULE = dumps.module_payload("ReJSON-RL", 3, b"{}")
BUSY = ReplyError(texts.BUSY_KEY)

PAYLOADS = pytest.mark.parametrize(
    ("payload", "kind"), [(TENSOR, b"AI_TENSOR"), (MODEL, b"AI__MODEL")], ids=["tensor", "model"]
)


@pytest.fixture
def wire(engine: Server) -> Iterator[Wire]:
    """A connection whose keys are deleted after the test."""
    with Wire(engine.port) as wire:
        yield wire
        wire.ask("DEL", "restored", "restored:a", "restored:c", "restored:d")


def run(wire: Wire, key: str = "restored") -> object:
    wire.ask("AI.TENSORSET", "restored:a", "FLOAT", 1, 2, "VALUES", 2, 3)
    inputs = ("INPUTS", 2, "restored:a", "restored:a")
    assert wire.ask("AI.MODELEXECUTE", key, *inputs, "OUTPUTS", 2, "restored:c", "restored:d") == b"OK"
    return wire.ask("AI.TENSORGET", "restored:c", "VALUES")


# -- what is restored -----------------------------------------------------------------------------


def test_a_tensor(wire: Wire):
    assert wire.ask("RESTORE", "restored", 0, TENSOR) == b"OK"

    assert wire.ask("AI.TENSORGET", "restored", "META", "VALUES") == [
        *(b"dtype", b"FLOAT", b"shape", [2], b"values", [b"1", b"2.5"]),
    ]
    assert wire.ask("TTL", "restored") == -1


def test_a_model_with_its_options(wire: Wire):
    assert wire.ask("RESTORE", "restored", 0, MODEL) == b"OK"

    assert wire.ask("AI.MODELGET", "restored") == [
        *(b"backend", b"ONNX", b"device", b"CPU", b"tag", b"moved", b"batchsize", 4, b"minbatchsize", 2),
        *(b"inputs", [b"a", b"b"], b"outputs", [b"product", b"sum"], b"minbatchtimeout", 0),
        *(b"blob", product_and_sum("ONNX").blob),
    ]


def test_a_model_runs(wire: Wire):
    plain = dumps.module_payload(  # without batching, so that one request runs alone
        "AI__MODEL",
        4,
        3,
        b"CPU\0",
        b"",
        0,
        0,
        0,
        0,
        0,
        len(product_and_sum("ONNX").blob),
        1,
        product_and_sum("ONNX").blob,
    )

    assert wire.ask("RESTORE", "restored", 0, plain) == b"OK"

    assert run(wire) == [b"4", b"9"]


@PAYLOADS
def test_in_front_of_redis_6(engine_on_6: Server, payload: bytes, kind: bytes):
    with Wire(engine_on_6.port) as wire:
        assert wire.ask("RESTORE", "restored", 60000, payload, "REPLACE") == b"OK"
        assert wire.ask("TYPE", "restored") == kind
        assert 0 < int(str(wire.ask("PTTL", "restored"))) <= 60000


# -- what is refused ------------------------------------------------------------------------------


@PAYLOADS
def test_a_key_that_is_taken_stays_as_it_is(wire: Wire, payload: bytes, kind: bytes):
    wire.ask("SET", "restored", "a string")

    assert wire.ask("RESTORE", "restored", 0, payload) == BUSY

    assert wire.ask("GET", "restored") == b"a string"


def test_a_model_that_can_not_be_loaded_replaces_nothing(wire: Wire):
    broken = dumps.model("ONNX", b"no model at all")
    wire.ask("SET", "restored", "a string")

    reply = wire.ask("RESTORE", "restored", 0, broken, "REPLACE")

    assert isinstance(reply, ReplyError)
    assert wire.ask("GET", "restored") == b"a string"


@pytest.mark.parametrize("options", [(), ("REPLACE",)])
@pytest.mark.parametrize("inside", ["", "MULTI"])
def test_who_may_not_write_hashes_learns_that_before_anything_is_loaded(
    wire: Wire, options: tuple[str, ...], inside: str
):
    wire.ask("ACL", "SETUSER", "restorer", "reset", "on", "nopass", "~*", "+@all", "-hset")
    wire.ask("AUTH", "restorer", "any")
    request = ("RESTORE", "restored", 0, dumps.model("ONNX", b"no model at all"), *options)

    if inside:
        wire.ask("MULTI")
        wire.ask(*request)
        replies = wire.ask("EXEC")
        assert isinstance(replies, list)
        (reply,) = replies
    else:
        reply = wire.ask(*request)

    wire.ask("AUTH", "default", "")
    assert isinstance(reply, ReplyError)
    assert reply.text.startswith("NOPERM ")


def test_payloads_that_say_nonsense_are_refused_with_the_reason(wire: Wire):
    for payload, reason in [
        (dumps.module_payload("AI_TENSOR", 4, 9, 9, 1, 2, b"xx"), "DLPack type 9"),
        (dumps.module_payload("AI_TENSOR", 5, 2, 32, 1, 2, b"xx"), "encoding version 5"),
        (dumps.float_tensor((3,), b"1234"), "has 4 bytes"),
    ]:
        reply = wire.ask("RESTORE", "restored", 0, payload)
        assert isinstance(reply, ReplyError)
        assert reply.text.startswith("ERR Bad data format: ")
        assert reason in reply.text
    assert wire.ask("EXISTS", "restored") == 0


@pytest.mark.parametrize(
    "request_",
    [
        (0, TENSOR[:-1] + b"x"),  # a wrong checksum
        (-1, TENSOR),
        ("soon", TENSOR),
        (0, TENSOR, "FOO"),
        (0, TENSOR, "FREQ", 300),
        (0, OTHER_MODULE),
        (0, TENSOR[:5]),
    ],
)
def test_redis_own_errors_stay(engine: Server, redis_server: Server, request_: tuple[str | int | bytes, ...]):
    with Wire(engine.port) as wire, Wire(redis_server.port) as plain:
        assert wire.raw("RESTORE", "restored", *request_) == plain.raw("RESTORE", "restored", *request_)


def test_who_may_not_restore_may_not_restore_ours(engine: Server, wire: Wire):
    wire.ask("ACL", "SETUSER", "keeper", "reset", "on", ">pw", "~*", "+@all", "-restore")
    with Wire(engine.port) as user:
        user.ask("AUTH", "keeper", "pw")
        assert user.raw("RESTORE", "restored", 0, TENSOR).startswith(b"-NOPERM")
    wire.ask("ACL", "SETUSER", "keeper", "resetkeys", "~other:*", "+restore")
    with Wire(engine.port) as user:
        user.ask("AUTH", "keeper", "pw")
        assert user.raw("RESTORE", "restored", 0, TENSOR).startswith(b"-NOPERM")
    wire.ask("ACL", "DELUSER", "keeper")


# -- options --------------------------------------------------------------------------------------


@PAYLOADS
@pytest.mark.parametrize(
    "old", ["SET restored string", "HSET restored f v", "AI.TENSORSET restored INT8 1", "LPUSH restored x"]
)
def test_replace_takes_the_place_of_any_key(wire: Wire, payload: bytes, kind: bytes, old: str):
    wire.ask(*old.split())

    assert wire.ask("RESTORE", "restored", 0, payload, "replace") == b"OK"

    assert wire.ask("TYPE", "restored") == kind
    assert wire.raw("HGET", "restored", "f").startswith((b"$-1", b"-WRONGTYPE"))


@PAYLOADS
def test_the_time_to_live_is_kept(wire: Wire, payload: bytes, kind: bytes):
    assert wire.ask("RESTORE", "restored", 50000, payload) == b"OK"
    assert 40000 < int(str(wire.ask("PTTL", "restored"))) <= 50000

    at = int(time.time() * 1000) + 90000
    assert wire.ask("RESTORE", "restored", at, payload, "ABSTTL", "REPLACE") == b"OK"
    assert 80000 < int(str(wire.ask("PTTL", "restored"))) <= 90000

    assert wire.ask("RESTORE", "restored", 0, payload, "REPLACE") == b"OK"
    assert wire.ask("PTTL", "restored") == -1


@PAYLOADS
def test_a_short_life_ends(wire: Wire, payload: bytes, kind: bytes):
    assert wire.ask("RESTORE", "restored", 1, payload) == b"OK"

    wait_until(lambda: wire.ask("EXISTS", "restored") == 0, timeout_s=10, what="the end of the key")


@PAYLOADS
@pytest.mark.parametrize("option", [("IDLETIME", 100), ("FREQ", 5)])
def test_idletime_and_freq_are_taken(wire: Wire, payload: bytes, kind: bytes, option: tuple[str, int]):
    assert wire.ask("RESTORE", "restored", 0, payload, *option, "REPLACE") == b"OK"
    assert wire.ask("TYPE", "restored") == kind


def test_a_model_in_use_is_replaced_at_once(wire: Wire):
    wire.ask("AI.MODELSTORE", "restored", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    for _ in range(3):
        run(wire)
    wire.ask("RESTORE", "restored", 0, TENSOR, "REPLACE")

    reply = wire.ask("AI.MODELEXECUTE", "restored", "INPUTS", 2, "restored:a", "restored:a", "OUTPUTS", 2, "c", "d")

    assert reply == ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")


# -- together with others -------------------------------------------------------------------------


def test_inside_multi_the_key_is_there_when_exec_is_answered(wire: Wire):
    wire.ask("MULTI")
    assert wire.ask("RESTORE", "restored", 0, TENSOR) == b"QUEUED"
    assert wire.ask("RESTORE", "restored:c", 0, OTHER_MODULE) == b"QUEUED"

    assert wire.ask("EXEC") == [b"OK", ReplyError("ERR Bad data format")]
    assert wire.ask("TYPE", "restored") == b"AI_TENSOR"


def test_keys_of_redis_own_are_restored_as_they_came(wire: Wire):
    wire.ask("RPUSH", "restored", "a", "b")
    payload = wire.ask("DUMP", "restored")
    assert isinstance(payload, bytes)

    assert wire.ask("RESTORE", "restored", 0, payload, "REPLACE") == b"OK"

    assert wire.ask("LRANGE", "restored", 0, -1) == [b"a", b"b"]


def test_what_migrate_sends(wire: Wire):
    """A Redis that migrates sends SELECT and one RESTORE per key, all at once; a cluster node sends RESTORE-ASKING."""
    wire.send("SELECT", 0)
    wire.send("RESTORE", "restored", 0, MODEL, "REPLACE")
    wire.send("RESTORE-ASKING", "restored:c", 0, TENSOR, "REPLACE")

    assert [wire.receive() for _ in range(3)] == [b"+OK\r\n"] * 3
    assert wire.ask("TYPE", "restored") == b"AI__MODEL"
    assert wire.ask("TYPE", "restored:c") == b"AI_TENSOR"


def test_keys_of_the_engine_move_to_another_engine_by_migrate(wire: Wire, new_engine: Callable[..., Server]):
    target = new_engine()
    wire.ask("AI.TENSORSET", "restored", "FLOAT", 1, "VALUES", 3)

    assert wire.ask("MIGRATE", target.host, target.port, "restored", 0, 10000) == b"OK"

    with Wire(target.port) as there:
        assert there.ask("AI.TENSORGET", "restored", "VALUES") == [b"3"]
