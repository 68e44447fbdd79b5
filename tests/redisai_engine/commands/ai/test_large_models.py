"""A large model is written to a free key while it is loaded. What fails leaves nothing there, and nothing in memory."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from redisai_engine.protocol.frames import ReplyError
from redisai_engine.redis import store
from support import onnx_faults
from support.gateway import model_blob
from support.hosts import hosts_of
from support.large_models import SIZE, padded, too_little_memory, weighty
from support.servers import Server, start_engine
from support.waiting import wait_until
from support.wire import Wire

pytestmark = pytest.mark.slow

MISSING = ReplyError("ERR model key is empty")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    engine = start_engine(tmp_path_factory.mktemp("large"))
    yield engine
    engine.stop()


@pytest.fixture
def wire(serving: Server) -> Iterator[Wire]:
    with Wire(serving.port, timeout_s=60) as wire:
        yield wire
        wire.ask("DEL", "m")


def stored(wire: Wire, blob: bytes) -> object:
    return wire.ask("AI.MODELSTORE", "m", "ONNX", "CPU", "TAG", "t", "BLOB", blob)


def found(wire: Wire, place: int) -> object:
    """Return the number at this place, or the error."""
    wire.ask("AI.TENSORSET", "i", "INT64", 1, "VALUES", place)
    reply = wire.ask("AI.MODELEXECUTE", "m", "INPUTS", 1, "i", "OUTPUTS", 1, "y")
    return wire.ask("AI.TENSORGET", "y", "VALUES") if reply == b"OK" else reply


def added(wire: Wire) -> object:
    """Run a model that adds something to a number."""
    wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", 1)
    return wire.ask("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")


def fields(serving: Server) -> dict[bytes, bytes]:
    """Return what Redis has of the model, without what is new with every store."""
    held = serving.client().hgetall("m")
    id_ = held.pop(store.ID)
    held[store.META] = held[store.META].replace(id_, b"")
    return held


def leave(client: Wire) -> None:
    """Break the connection off. After an orderly end, a command that has been sent is carried out."""
    client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client._socket.close()


def test_a_large_model_is_stored_like_any_other(serving: Server, wire: Wire) -> None:
    """One that replaces another is loaded before it is written."""
    assert stored(wire, weighty()) == b"OK"
    first = fields(serving)

    assert found(wire, 12345) == [b"12345"]
    assert stored(wire, weighty()) == b"OK"
    assert fields(serving) == first
    assert serving.client().execute_command("AI.MODELGET", "m", "BLOB") == weighty()


def test_what_redis_has_no_room_for_is_not_served(wire: Wire) -> None:
    """Redis takes the question whether the key may be written, but not the model."""
    used = wire.ask("INFO", "memory")
    assert isinstance(used, bytes)
    room = int(used.partition(b"used_memory:")[2].split()[0]) + SIZE // 2
    wire.ask("CONFIG", "SET", "maxmemory", room)
    refusal = stored(wire, weighty())
    wire.ask("CONFIG", "SET", "maxmemory", 0)

    assert isinstance(refusal, ReplyError)
    assert refusal.text.startswith("OOM")
    assert wire.ask("EXISTS", "m") == 0
    assert found(wire, 1) == MISSING
    assert stored(wire, weighty()) == b"OK"


def test_what_passes_but_cannot_be_loaded_is_not_left_in_redis(tmp_path: Path) -> None:
    """The engine's process may take less memory than the one in which the model is tried out."""
    engine = start_engine(tmp_path)  # in which nothing is about to give memory back
    try:
        with Wire(engine.port, timeout_s=60) as wire:
            wire.ask("AI.MODELSTORE", "small", "ONNX", "CPU", "BLOB", model_blob("Add"))  # starts what trials need
            with too_little_memory(engine):
                refusal = stored(wire, weighty())

            assert isinstance(refusal, ReplyError)
            assert "bad_alloc" in refusal.text
            assert wire.ask("EXISTS", "m") == 0
            assert found(wire, 1) == MISSING
            assert stored(wire, weighty()) == b"OK"
            assert found(wire, 7) == [b"7"]
    finally:
        engine.stop()


def test_what_fails_its_probation_never_gets_to_redis(wire: Wire) -> None:
    wire.ask("CONFIG", "RESETSTAT")
    refusal = stored(wire, padded(onnx_faults.crashing_load("large")))
    calls = wire.ask("INFO", "commandstats")

    assert isinstance(refusal, ReplyError)
    assert isinstance(calls, bytes)
    told = re.search(rb"cmdstat_hset:calls=(\d+),.*failed_calls=(\d+)", calls)
    assert told is not None
    assert told.groups() == (b"1", b"1")  # the question whether the key may be written, which is refused for its form
    assert wire.ask("EXISTS", "m") == 0


def test_a_client_that_leaves_while_its_model_is_tried_out_leaves_no_part_of_it(serving: Server, wire: Wire) -> None:
    """Nothing, or all of it if the engine hasn't noticed yet."""
    wait_until(lambda: not hosts_of(serving), what="the end of earlier trials")
    with Wire(serving.port) as leaving:
        leaving.send("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", padded(onnx_faults.slow_load(9)))
        wait_until(lambda: hosts_of(serving), what="a trial")
        leave(leaving)
    wait_until(lambda: not hosts_of(serving), what="the end of the trial")
    wire.ask("AI.MODELSTORE", "other", "ONNX", "CPU", "BLOB", weighty())  # whatever may follow has begun by then
    wire.ask("DEL", "other")

    assert added(wire) in (b"OK", MISSING)


def test_a_client_that_leaves_while_its_model_is_loaded_leaves_all_of_it(serving: Server, wire: Wire) -> None:
    """Another client may run it before this process has loaded it for the first one."""
    with Wire(serving.port) as leaving:
        leaving.send("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", padded(onnx_faults.slow_load(8)))
        wait_until(lambda: wire.ask("EXISTS", "m"), what="the model in Redis")
        leave(leaving)

    assert added(wire) == b"OK"
