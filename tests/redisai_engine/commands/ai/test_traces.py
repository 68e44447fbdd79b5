"""A DAG over Redis' protocol joins the trace that ROUTING's key ends with."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from redisai_engine.commands.grammar.traces import trace_in
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.tracing.spans import VARIABLE
from support.servers import Server
from support.spans import PARENT, TRACE, spans
from support.tiny_models import product_and_sum
from support.waiting import wait_until
from support.wire import Wire

OTHER = PARENT.replace("b7ad6b7169203331", "00f067aa0ba902b7")
RIGHT = [b"OK", b"OK", b"OK", struct.pack("<f", 6)]


@pytest.fixture
def traced(new_engine: Callable[..., Server]) -> Server:
    pytest.importorskip("opentelemetry.sdk")
    engine = new_engine(environment={VARIABLE: "console", "OTEL_BSP_SCHEDULE_DELAY": "50"})
    with Wire(engine.port) as wire:
        wire.ask("AI.MODELSTORE", "tiny", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    return engine


def dag(command: str, routing: str, model: str = "tiny") -> list[object]:
    number = struct.pack("<f", 2), struct.pack("<f", 3)
    return [
        *(command, "ROUTING", routing),
        *("|>", "AI.TENSORSET", "a", "FLOAT", 1, 1, "BLOB", number[0]),
        *("|>", "AI.TENSORSET", "b", "FLOAT", 1, 1, "BLOB", number[1]),
        *("|>", "AI.MODELEXECUTE", model, "INPUTS", 2, "a", "b", "OUTPUTS", 2, "p", "s"),
        *("|>", "AI.TENSORGET", "p", "BLOB"),
    ]


def found(engine: Server, number: int) -> list[dict[str, Any]]:
    return wait_until(lambda: spans(engine) if len(spans(engine)) >= number else [], what="the spans")


@pytest.mark.parametrize("command", ["AI.DAGEXECUTE", "AI.DAGEXECUTE_RO"])
def test_each_dag_joins_the_trace_that_it_names(traced: Server, command: str) -> None:
    with Wire(traced.port) as wire:
        for routing in ("tiny", f"tiny:{PARENT}", f"{{tiny}}{OTHER}", f"tiny:{PARENT}", "tiny"):
            assert wire.ask(*dag(command, routing)) == RIGHT
    made = found(traced, 3)

    assert [span["name"] for span in made] == [command] * 3
    assert {span["context"]["trace_id"] for span in made} == {f"0x{TRACE}"}
    assert [span["parent_id"] for span in made] == ["0xb7ad6b7169203331", "0x00f067aa0ba902b7", "0xb7ad6b7169203331"]
    assert all(span["start_time"] < span["end_time"] for span in made)


def test_one_that_fails_is_marked(traced: Server) -> None:
    with Wire(traced.port) as wire:
        assert isinstance(wire.ask(*dag("AI.DAGEXECUTE_RO", f"m:{PARENT}", "missing")), ReplyError)
    (span,) = found(traced, 1)

    assert span["status"]["status_code"] == "ERROR"


def test_the_key_is_still_one_that_the_user_must_be_allowed_to_read(traced: Server) -> None:
    with Wire(traced.port) as wire, Wire(traced.port) as other:
        wire.ask("ACL", "SETUSER", "u", "on", ">p", "+@all", "~tiny*", "~mlflow*")
        other.ask("AUTH", "u", "p")

        assert other.ask(*dag("AI.DAGEXECUTE_RO", f"tiny:{PARENT}")) == RIGHT
        assert "NOPERM" in str(other.ask(*dag("AI.DAGEXECUTE_RO", f"other:{PARENT}")))


@pytest.mark.parametrize(
    "key",
    [b"", b"tiny", PARENT.encode() + b"x", PARENT.upper().encode(), PARENT[:-1].encode(), b"ff" + PARENT[2:].encode()],
)
def test_other_keys_name_none(key: bytes) -> None:
    assert trace_in(key) == ""


def test_the_trace_is_what_a_key_ends_with() -> None:
    assert trace_in(PARENT.encode()) == trace_in(b"tiny:" + PARENT.encode()) == PARENT
