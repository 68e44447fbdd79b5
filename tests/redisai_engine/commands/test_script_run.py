"""Calling scripts: the arguments' rules, alone and in a DAG, beside what the recorded conversations show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redisai_engine.commands.script_run import Call, parse_scriptexecute, parse_scriptrun
from redisai_engine.errors import CommandError
from redisai_engine.protocol.frames import ReplyError
from support.servers import Server
from support.torch_scripts import ADD, COUNT, entry_point, needs_torch
from support.waiting import wait_until
from support.wire import Wire


@pytest.fixture
def wire(engine: Server) -> Iterator[Wire]:
    """A client; there is a script with `add` and `count`, and a tensor. Its keys are removed."""
    with Wire(engine.port) as wire:
        wire.ask("AI.SCRIPTSTORE", "run", "CPU", "ENTRY_POINTS", 2, "add", "count", "SOURCE", ADD + COUNT)
        wire.ask("AI.TENSORSET", "run:a", "FLOAT", 1, "VALUES", 2)
        yield wire
        wire.ask("DEL", "run", "run:a", "run:c", "run:d")


# -- AI.SCRIPTEXECUTE -----------------------------------------------------------------------------


def test_scopes_come_in_any_order_behind_the_first():
    words = b"inputs 2 a b Outputs 1 c ARGS 2 x y keys 1 k TIMEOUT 7".split()

    assert parse_scriptexecute(words, in_dag=False) == Call(
        inputs=[b"a", b"b"], outputs=[b"c"], timeout_ms=7, keys=[b"k"], arguments=[b"x", b"y"]
    )


def test_in_a_dag_any_scope_may_be_first_or_none():
    assert parse_scriptexecute(b"ARGS 1 x INPUTS 1 a".split(), in_dag=True) == Call([b"a"], arguments=[b"x"])
    assert parse_scriptexecute([], in_dag=True) == Call()


def test_a_negative_count_is_none():
    assert parse_scriptexecute(b"INPUTS -1 OUTPUTS 1 c".split(), in_dag=False) == Call(outputs=[b"c"])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("", "ERR KEYS or INPUTS scope must be provided first for AI.SCRIPTEXECUTE command"),
        ("KEYS", "ERR Missing arguments after KEYS keyword"),
        ("KEYS 1", "ERR Missing arguments after KEYS keyword"),
        ("KEYS 0 k", "ERR Invalid or negative value found in number of KEYS"),
        ("KEYS -1 k", "ERR Invalid or negative value found in number of KEYS"),
        (
            "KEYS 2 k",
            "ERR Number of pre declared KEYS to be used in the command does not match the number of given arguments",
        ),
        ("INPUTS 1 a KEYS x k", "ERR Invalid or negative value found in number of KEYS"),
        ("INPUTS 1 a ARGS x y", "ERR Invalid argument for keys count in AI.SCRIPTEXECUTE"),
        ("INPUTS 1 a TIMEOUT -1", "ERR Invalid value for TIMEOUT"),
        ("INPUTS 1 a TIMEOUT 1 TIMEOUT 2", "ERR Encountered problem parsing AI.SCRIPTEXECUTE"),
    ],
)
def test_words_that_can_not_be_read(words: str, error: str):
    with pytest.raises(CommandError) as raised:
        parse_scriptexecute(words.encode().split(), in_dag=False)

    assert raised.value.wire == error


# -- AI.SCRIPTRUN ---------------------------------------------------------------------------------


def test_the_deprecated_form():
    words = b"TIMEOUT 7 inputs a $ b b OUTPUTS c d".split()

    assert parse_scriptrun(words) == Call([b"a", b"b", b"b"], [b"c", b"d"], 7)


def test_the_deprecated_form_may_have_a_timeout_anywhere_and_no_sections():
    assert parse_scriptrun(b"INPUTS a TIMEOUT 7 b OUTPUTS c".split()) == Call([b"a", b"b"], [b"c"], 7)
    assert parse_scriptrun([]) == Call()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("TIMEOUT", "ERR No value provided for TIMEOUT"),
        ("a INPUTS b", "ERR Unrecongnized parameter to SCRIPTRUN"),
        ("$ INPUTS b", "ERR Encountered a variable size list of tensors outside of input section"),
        ("OUTPUTS a INPUTS b", "ERR Already encountered an INPUTS section in SCRIPTRUN"),
    ],
)
def test_words_of_the_deprecated_form_that_can_not_be_read(words: str, error: str):
    with pytest.raises(CommandError) as raised:
        parse_scriptrun(words.encode().split())

    assert raised.value.wire == error


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
        slow.send("AI.SCRIPTEXECUTE", "run", "count", "INPUTS", 1, "run:a", "ARGS", 1, 300_000)
        call = ("|>", "AI.SCRIPTEXECUTE", "run", "add", "INPUTS", 2, "run:a", "run:a", "OUTPUTS", 1, "c")
        # The slow one may not have begun yet when the first of these comes.
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


@pytest.mark.parametrize(
    ("dag", "operation"), [("AI.DAGEXECUTE_RO", "AI.SCRIPTEXECUTE"), ("AI.DAGRUN_RO", "AI.SCRIPTRUN")]
)
def test_a_read_only_dag_calls_no_scripts(wire: Wire, dag: str, operation: str):
    reply = wire.ask(dag, "ROUTING", "x", "|>", operation, "run", "add", "INPUTS", "a", "OUTPUTS", "b")

    assert reply == ReplyError(f"ERR {operation} command cannot be specified in a read-only DAG")
