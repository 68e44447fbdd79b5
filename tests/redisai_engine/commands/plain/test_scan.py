"""AI._MODELSCAN, and SCAN with RedisAI's types."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.servers import Server
from support.tiny_models import product_and_sum
from support.wire import Wire

Words = tuple[str, ...]


@pytest.fixture
def wire(new_engine: Callable[..., Server]) -> Iterator[Wire]:
    """A connection to an empty engine."""
    with Wire(new_engine().port) as wire:
        yield wire


def store(wire: Wire, key: str, tag: str = "") -> object:
    return wire.ask("AI.MODELSTORE", key, "ONNX", "CPU", "TAG", tag, "BLOB", product_and_sum("ONNX").blob)


def modelscan(wire: Wire) -> set[tuple[bytes, ...]]:
    return as_set(wire.ask("AI._MODELSCAN"))


def as_set(reply: object) -> set[tuple[bytes, ...]]:
    assert isinstance(reply, list)
    assert len({row[0] for row in reply}) == len(reply)
    return {tuple(row) for row in reply}


def scan(wire: Wire, *options: str | int) -> set[bytes]:
    found: set[bytes] = set()
    cursor: bytes = b"0"
    while True:
        reply = wire.ask("SCAN", cursor, *options)
        assert isinstance(reply, list)
        cursor, keys = reply  # type: ignore[assignment]
        found |= set(keys)  # type: ignore[arg-type]
        if cursor == b"0":
            return found


def test_models_among_many_other_keys_are_found(wire: Wire):
    for number in range(30):
        wire.ask("MSET", *(f"string:{number}:{i}" for i in range(200)))
        wire.ask("HSET", f"hash:{number}", "ai.model:tag", "not a model")
    for number in range(5):
        store(wire, f"m{number}", f"tag {number}")

    assert modelscan(wire) == {(b"m%d" % number, b"tag %d" % number) for number in range(5)}


def test_inside_multi_what_was_stored_before_is_seen_even_if_it_is_deleted_later(wire: Wire):
    store(wire, "old", "stays")
    wire.ask("MULTI")
    store(wire, "new", "comes and goes")
    wire.ask("AI._MODELSCAN")
    wire.ask("AI.MODELDEL", "new")
    wire.ask("AI._MODELSCAN")

    stored, first, deleted, second = wire.ask("EXEC")  # type: ignore[misc]

    assert (stored, deleted) == (b"OK", b"OK")
    assert as_set(first) == {(b"old", b"stays"), (b"new", b"comes and goes")}
    assert as_set(second) == {(b"old", b"stays")}


def test_inside_multi_a_model_that_could_not_be_stored_is_not_seen(wire: Wire):
    wire.ask("SET", "k", "a string")
    wire.ask("MULTI")
    store(wire, "k")
    wire.ask("AI._MODELSCAN")

    refused, found = wire.ask("EXEC")  # type: ignore[misc]

    assert "WRONGTYPE" in repr(refused)
    assert found == []


def test_scan_by_redisais_types(wire: Wire):
    for number in range(50):
        wire.ask("AI.TENSORSET", f"t{number}", "FLOAT", 1, "VALUES", number)
        wire.ask("SET", f"s{number}", "a string")
        wire.ask("HSET", f"h{number}", "f", "v")
    store(wire, "m")

    assert scan(wire, "TYPE", "AI_TENSOR") == {b"t%d" % number for number in range(50)}
    assert scan(wire, "COUNT", 7, "TYPE", "ai_tensor", "MATCH", "t1*") == {b"t1", *(b"t1%d" % i for i in range(10))}
    assert scan(wire, "TYPE", "AI__MODEL") == {b"m"}
    assert scan(wire, "TYPE", "hash", "MATCH", "h1") == {b"h1"}
    assert "syntax error" in repr(wire.ask("SCAN", "0", "TYPE", "AI_TENSOR", "FOO"))
    assert "invalid cursor" in repr(wire.ask("SCAN", "x", "TYPE", "AI_TENSOR"))


def test_a_type_as_pattern_is_no_type(wire: Wire):
    wire.ask("SET", "type", "a string")

    assert scan(wire, "MATCH", "type", "COUNT", 10) == {b"type"}
    assert scan(wire, "MATCH", "TYPE") == set()
