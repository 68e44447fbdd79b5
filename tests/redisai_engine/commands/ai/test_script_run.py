"""Calling scripts, alone and in a DAG: the rules for their arguments, besides what the recorded conversations show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redisai_engine.protocol.frames import ReplyError
from support.servers import Server
from support.torch_scripts import ADD, COUNT, entry_point, needs_torch
from support.waiting import wait_until
from support.wire import Wire


@pytest.fixture
def wire(engine: Server) -> Iterator[Wire]:
    """A connection; a script with `add` and `count` and a tensor are stored. Their keys are deleted after the test."""
    with Wire(engine.port) as wire:
        wire.ask("AI.SCRIPTSTORE", "run", "CPU", "ENTRY_POINTS", 2, "add", "count", "SOURCE", ADD + COUNT)
        wire.ask("AI.TENSORSET", "run:a", "FLOAT", 1, "VALUES", 2)
        yield wire
        wire.ask("DEL", "run", "run:a", "run:c", "run:d")


# -- running --------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_torch
def test_a_script_stored_in_another_process_is_compiled_when_it_is_first_called(pair, new_engine):  # type: ignore[no-untyped-def]
    with Wire(pair.engine.port) as wire:
        wire.ask("AI.SCRIPTSTORE", "run:shared", "CPU", "ENTRY_POINTS", 1, "add", "SOURCE", ADD)
        wire.ask("AI.TENSORSET", "run:shared:a", "FLOAT", 1, "VALUES", 2)
    other = new_engine("--redis", pair.redis.url)

    with Wire(other.port) as wire:
        inputs = ("INPUTS", 2, "run:shared:a", "run:shared:a")
        assert wire.ask("AI.SCRIPTEXECUTE", "run:shared", "add", *inputs, "OUTPUTS", 1, "run:shared:c") == b"OK"
        assert wire.ask("AI.TENSORGET", "run:shared:c", "VALUES") == [b"4"]
        assert wire.ask("DEL", "run:shared", "run:shared:a", "run:shared:c") == 3


@needs_torch
def test_an_output_key_of_another_type_is_refused_before_the_script_runs(wire: Wire):
    wire.ask("SET", "run:c", "v")
    outputs = ("OUTPUTS", 2, "run:d", "run:c")

    reply = wire.ask("AI.SCRIPTEXECUTE", "run", "add", "INPUTS", 2, "run:a", "run:a", *outputs)

    assert reply == ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")
    assert wire.ask("EXISTS", "run:d") == 0
    assert wire.ask("AI.INFO", "run")[-3] == 0  # type: ignore[index]  # calls


@pytest.mark.slow
@needs_torch
def test_a_call_that_waits_too_long_times_out_in_a_dag_too(engine: Server, wire: Wire):
    with Wire(engine.port) as slow:
        slow.send("AI.SCRIPTEXECUTE", "run", "count", "INPUTS", 1, "run:a", "ARGS", 1, 60_000)
        call = ("|>", "AI.SCRIPTEXECUTE", "run", "add", "INPUTS", 2, "run:a", "run:a", "OUTPUTS", 1, "c")
        # The slow call may not have started yet when the first of these arrives.
        wait_until(
            lambda: wire.ask("AI.DAGEXECUTE", "LOAD", 1, "run:a", "TIMEOUT", 1, *call) == b"TIMEDOUT",
            timeout_s=10,
            what="a call behind another",
        )
        assert slow.receive() == b"+OK\r\n"


@needs_torch
def test_a_failing_script_in_a_dag_leaves_its_outputs_out(wire: Wire):
    fails = entry_point("fails", "assert len(keys) > 5", "return tensors[0]")
    wire.ask("AI.SCRIPTSTORE", "run", "CPU", "ENTRY_POINTS", 2, "add", "fails", "SOURCE", ADD + fails)
    first = ("|>", "AI.SCRIPTEXECUTE", "run", "fails", "INPUTS", 1, "run:a", "OUTPUTS", 1, "x")
    second = ("|>", "AI.SCRIPTEXECUTE", "run", "add", "INPUTS", 2, "run:a", "run:a", "OUTPUTS", 1, "y")

    failed, done, x, y = wire.ask(  # type: ignore[misc]
        *("AI.DAGEXECUTE", "LOAD", 1, "run:a", *first, *second),
        *("|>", "AI.TENSORGET", "x", "VALUES", "|>", "AI.TENSORGET", "y", "VALUES"),
    )

    assert isinstance(failed, ReplyError)
    assert (done, x, y) == (b"OK", b"NA", [b"4"])


def test_a_read_only_dag_calls_no_scripts(wire: Wire):
    call = ("AI.SCRIPTEXECUTE", "run", "add", "INPUTS", 1, "a", "OUTPUTS", 1, "b")

    reply = wire.ask("AI.DAGEXECUTE_RO", "ROUTING", "x", "|>", *call)

    assert reply == ReplyError("ERR AI.SCRIPTEXECUTE command cannot be specified in a read-only DAG")


@needs_torch
def test_its_deprecated_form_does(wire: Wire):
    call = ("AI.SCRIPTRUN", "run", "add", "INPUTS", "run:a", "run:a", "OUTPUTS", "b")

    reply = wire.ask("AI.DAGRUN_RO", "LOAD", 1, "run:a", "|>", *call, "|>", "AI.TENSORGET", "b", "VALUES")

    assert reply == [b"OK", [b"4"]]
