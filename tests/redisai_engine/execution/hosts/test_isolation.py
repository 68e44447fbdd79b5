"""A model that certain inputs crash is served in a process of its own, without anybody asking for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from onnx import TensorProto, helper

from redisai_engine.execution.quarantine import digest_of
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.redis import store
from support.gateway import model_blob
from support.hosts import hosts_of
from support.onnx_faults import LOWEST, integers
from support.servers import Server
from support.tiny_models import onnx_model
from support.torch_scripts import RUN_MODEL, needs_torch
from support.waiting import wait_until
from support.wire import Wire

pytestmark = pytest.mark.slow

CRASHED = ReplyError("ERR the model's process ended by signal 8 (SIGFPE); the next run starts another one")


def quotient(*, by: int | None = None) -> bytes:
    """Return a model that divides INT64, by its second input or by a number."""
    divisor = "b" if by is None else "number"
    column = (TensorProto.INT64, ("N", 1))
    weights = [] if by is None else [integers("number", by)]
    nodes = [helper.make_node("Div", ["a", divisor], ["y"]), helper.make_node("Identity", ["b"], ["same"])]
    return onnx_model(nodes, {"a": column, "b": column}, {"y": column, "same": column}, initializers=weights)


@pytest.fixture
def serving(new_engine: Callable[..., Server]) -> Server:
    return new_engine()


@pytest.fixture
def wire(serving: Server) -> Iterator[Wire]:
    """A client, with a model that crashes and one that doesn't, and inputs for both."""
    with Wire(serving.port) as wire:
        assert wire.ask("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", quotient()) == b"OK"
        assert wire.ask("AI.MODELSTORE", "good", "ONNX", "CPU", "BLOB", model_blob("Add")) == b"OK"
        for name, value in (("fa", 2), ("fb", 3)):
            wire.ask("AI.TENSORSET", name, "FLOAT", 1, "VALUES", value)
        given(wire, 7, 2)
        yield wire


def given(wire: Wire, a: int, b: int, name: str = "") -> None:
    """Set the inputs. They are bytes, because as text RedisAI takes no number as low as the lowest one."""
    for key, value in (("a", a), ("b", b)):
        number = value.to_bytes(8, "little", signed=True)
        assert wire.ask("AI.TENSORSET", key + name, "INT64", 1, 1, "BLOB", number) == b"OK"


def ran(wire: Wire, key: str = "m", name: str = "") -> object:
    return wire.ask("AI.MODELEXECUTE", key, "INPUTS", 2, "a" + name, "b" + name, "OUTPUTS", 2, "y", "same")


def serves(wire: Wire) -> bool:
    """Return whether the other model, which is in the engine's process, answers as it should."""
    assert wire.ask("AI.MODELEXECUTE", "good", "INPUTS", 2, "fa", "fb", "OUTPUTS", 1, "z") == b"OK"
    return wire.ask("AI.TENSORGET", "z", "VALUES") == [b"5"]


def test_it_works_and_is_said_to_be_isolated(serving: Server, wire: Wire) -> None:
    """In the log once, however often the blob is stored; in AI.INFO for as long as the model exists."""
    assert ran(wire) == b"OK"
    assert wire.ask("AI.TENSORGET", "y", "VALUES") == [3]
    assert wire.ask("AI.MODELSTORE", "again", "ONNX", "CPU", "BLOB", quotient()) == b"OK"

    for key in ("m", "again"):
        told = wire.ask("AI.INFO", key)
        assert isinstance(told, list)
        assert told[-2:] == [b"isolate", b"yes"]
    assert b"isolate" not in wire.ask("AI.INFO", "good")  # type: ignore[operator]
    said = (
        f"the model with digest {digest_of('ONNX', quotient())} is served by a process of its own, because its "
        "operator Div may divide integers by -1 or 0\n"
    )
    wait_until(lambda: said in serving.complaints(), what="the line in the log")
    assert serving.complaints().count("process of its own") == 1


def test_a_client_that_may_only_predict_crashes_no_more_than_its_own_request(serving: Server, wire: Wire) -> None:
    wire.ask("ACL", "SETUSER", "predicting", "on", "nopass", "~*", "+@all", "-hset")

    with Wire(serving.port) as other:
        other.ask("AUTH", "predicting", "any")
        assert isinstance(other.ask("AI.MODELSTORE", "mine", "ONNX", "CPU", "BLOB", quotient()), ReplyError)
        given(other, LOWEST, -1)
        assert ran(other) == CRASHED

    assert serves(wire)
    given(wire, 7, 2)
    assert ran(wire) == b"OK"
    assert serving.process.poll() is None


def test_a_crash_in_a_dag_is_its_error(serving: Server, wire: Wire) -> None:
    given(wire, LOWEST, -1)
    run = ("|>", "AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "b", "OUTPUTS", 2, "y", "same")

    reply = wire.ask("AI.DAGEXECUTE", "LOAD", 2, "a", "b", *run, "|>", "AI.TENSORGET", "y", "VALUES")

    assert isinstance(reply, list)
    assert CRASHED in reply
    assert serves(wire)
    assert serving.process.poll() is None


@needs_torch
def test_a_crash_in_a_model_that_a_script_runs_is_the_scripts_error(serving: Server, wire: Wire) -> None:
    wire.ask("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 1, "run_model", "SOURCE", RUN_MODEL)
    call = ("AI.SCRIPTEXECUTE", "s", "run_model", "KEYS", 1, "m", "INPUTS", 2, "a", "b", "ARGS", 1, "2")
    assert wire.ask(*call, "OUTPUTS", 2, "y", "same") == b"OK"
    given(wire, LOWEST, -1)

    reply = wire.ask(*call, "OUTPUTS", 2, "y", "same")

    assert isinstance(reply, ReplyError)
    assert "ended by signal 8 (SIGFPE)" in reply.text
    assert serves(wire)
    assert serving.process.poll() is None


def test_a_request_that_is_joined_with_one_that_crashes_is_answered(serving: Server, wire: Wire) -> None:
    """The model waits for two requests. When their joined run has failed, each is run alone."""
    options = ("BATCHSIZE", 2, "MINBATCHSIZE", 2, "MINBATCHTIMEOUT", 60_000)
    assert wire.ask("AI.MODELSTORE", "joined", "ONNX", "CPU", *options, "BLOB", quotient()) == b"OK"
    run = ("AI.MODELEXECUTE", "joined", "INPUTS", 2)
    given(wire, LOWEST, -1, "bad")

    with Wire(serving.port) as other:
        wire.send(*run, "a", "b", "OUTPUTS", 2, "y", "same")
        other.send(*run, "abad", "bbad", "OUTPUTS", 2, "y2", "same2")
        answers = wire.receive(), other.receive()

    assert answers == (b"+OK\r\n", f"-{CRASHED.text}\r\n".encode())
    assert wire.ask("AI.TENSORGET", "y", "VALUES") == [3]
    assert serving.process.poll() is None


def test_a_model_that_keeps_crashing_has_failed(serving: Server, wire: Wire) -> None:
    given(wire, LOWEST, -1)

    replies = {getattr(ran(wire), "text", "") for _ in range(12)}

    assert any("has failed: its process has died 5 times" in each or "keeps dying" in each for each in replies)
    assert serves(wire)


def test_what_redis_holds_is_isolated_too(serving: Server, wire: Wire) -> None:
    """It may be there from before, or written by whoever may write to Redis."""
    meta = store.ModelInfo("ONNX", "CPU", inputs=("a", "b"), outputs=("y", "same"), blob_size=len(quotient()))
    wire.ask("HSET", "held", *[bytes(field) for field in store.model_fields(meta, quotient())])
    given(wire, LOWEST, -1)

    assert ran(wire, "held") == CRASHED

    told = wire.ask("AI.INFO", "held")
    assert isinstance(told, list)
    assert told[-2:] == [b"isolate", b"yes"]
    assert serves(wire)


def test_a_division_by_a_constant_is_not_isolated(serving: Server, wire: Wire) -> None:
    wait_until(lambda: len(hosts_of(serving)) == 1, what="the end of trials")

    assert wire.ask("AI.MODELSTORE", "half", "ONNX", "CPU", "BLOB", quotient(by=2)) == b"OK"

    wait_until(lambda: len(hosts_of(serving)) == 1, what="the end of its trial")
    assert b"isolate" not in wire.ask("AI.INFO", "half")  # type: ignore[operator]


def test_trusted_models_are_left_in_the_engine(new_engine: Callable[..., Server]) -> None:
    engine = new_engine("--trusted-models")

    with Wire(engine.port) as wire:
        assert wire.ask("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", quotient()) == b"OK"
        given(wire, 7, 2)
        assert ran(wire) == b"OK"

    assert hosts_of(engine) == []
