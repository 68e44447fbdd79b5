"""The arguments of runs and calls: what is read, and which error comes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisai_engine.commands.grammar.calls import (
    FunctionCall,
    ModelCall,
    parse_modelexecute,
    parse_modelrun,
    parse_scriptexecute,
    parse_scriptrun,
)
from redisai_engine.errors import CommandError

# -- AI.SCRIPTEXECUTE -----------------------------------------------------------------------------


def test_scopes_come_in_any_order_behind_the_first():
    words = b"inputs 2 a b Outputs 1 c ARGS 2 x y keys 1 k TIMEOUT 7".split()

    assert parse_scriptexecute(words, in_dag=False) == FunctionCall(
        inputs=[b"a", b"b"], outputs=[b"c"], timeout_ms=7, keys=[b"k"], arguments=[b"x", b"y"]
    )


def test_in_a_dag_any_scope_may_be_first_or_none():
    assert parse_scriptexecute(b"ARGS 1 x INPUTS 1 a".split(), in_dag=True) == FunctionCall([b"a"], arguments=[b"x"])
    assert parse_scriptexecute([], in_dag=True) == FunctionCall()


def test_a_negative_count_is_none():
    assert parse_scriptexecute(b"INPUTS -1 OUTPUTS 1 c".split(), in_dag=False) == FunctionCall(outputs=[b"c"])


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
        parse_scriptexecute(words.encode().split(), in_dag=False).check()

    assert raised.value.wire == error


# -- AI.SCRIPTRUN ---------------------------------------------------------------------------------


def test_the_deprecated_form():
    words = b"TIMEOUT 7 inputs a $ b b OUTPUTS c d".split()

    assert parse_scriptrun(words) == FunctionCall([b"a", b"b", b"b"], [b"c", b"d"], 7)


def test_the_deprecated_form_may_have_a_timeout_anywhere_and_no_sections():
    assert parse_scriptrun(b"INPUTS a TIMEOUT 7 b OUTPUTS c".split()) == FunctionCall([b"a", b"b"], [b"c"], 7)
    assert parse_scriptrun([]) == FunctionCall()


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
        parse_scriptrun(words.encode().split()).check()

    assert raised.value.wire == error


# -- AI.MODELEXECUTE, AI.MODELRUN ------------------------------------------------------------------


INPUTS_MISMATCH = "Number of keys given as INPUTS here does not match model definition"
OUTPUTS_MISMATCH = "Number of keys given as OUTPUTS here does not match model definition"


INPUT_KEYS = "ERR number of input keys to AI.MODELEXECUTE command does not match the number of given arguments"
OUTPUT_KEYS = "ERR number of output keys to AI.MODELEXECUTE command does not match the number of given arguments"


def refused(call: ModelCall, inputs: int, outputs: int) -> str:
    with pytest.raises(CommandError) as raised:
        call.check(inputs, outputs)
    return raised.value.wire


def test_a_run_of_a_model():
    call = parse_modelexecute(b"inputs 2 a b OUTPUTS 1 y timeout 7".split())

    call.check(2, 1)
    assert (call.inputs, call.outputs, call.timeout_ms) == ([b"a", b"b"], [b"y"], 7)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("", "ERR INPUTS not specified"),
        ("INPUTS x a OUTPUTS 1 y", "ERR Invalid argument for input_count"),
        ("INPUTS 0 OUTPUTS 1 y", "ERR Input count must be a positive integer"),
        ("INPUTS 1 a OUTPUTS x y", INPUTS_MISMATCH),
        ("INPUTS 2 a b", "ERR OUTPUTS not specified"),
        ("INPUTS 2 a b OUTPUTS 0 y", "ERR Output count must be a positive integer"),
        (
            "INPUTS 2 a b OUTPUTS 2 y z TIMEOUT x",
            OUTPUTS_MISMATCH,
        ),
        ("INPUTS", "ERR Invalid argument for input_count"),
        ("INPUTS 2", INPUT_KEYS),
        ("INPUTS 2 a", INPUT_KEYS),
        ("INPUTS 2 a OUTPUTS 1 y", "ERR OUTPUTS not specified"),  # OUTPUTS is an input
        ("INPUTS 2 a b OUTPUTS", "ERR Invalid argument for output_count"),
        ("INPUTS 2 a b OUTPUTS 2", OUTPUTS_MISMATCH),
        ("INPUTS 2 a b OUTPUTS 1", OUTPUT_KEYS),
        ("INPUTS 2 a b OUTPUTS 1 y TIMEOUT", "ERR No value provided for TIMEOUT"),
        ("INPUTS 2 a b OUTPUTS 1 y z", "Invalid argument: z"),
    ],
)
def test_the_first_error_counts_those_of_the_model_too(words: str, error: str):
    """The model has two inputs and one output."""
    assert refused(parse_modelexecute(words.encode().split()), 2, 1) == error


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("TIMEOUT x INPUTS a b OUTPUTS y", "ERR Invalid value for TIMEOUT"),
        ("a b OUTPUTS y", "ERR INPUTS not specified"),
        ("INPUTS a OUTPUTS y z", INPUTS_MISMATCH),
        ("INPUTS a b OUTPUTS y z", OUTPUTS_MISMATCH),
        ("INPUTS a b", OUTPUTS_MISMATCH),
    ],
)
def test_the_first_error_of_the_deprecated_run(words: str, error: str):
    assert refused(parse_modelrun(words.encode().split()), 2, 1) == error


WORDS = st.lists(st.sampled_from(b"INPUTS OUTPUTS TIMEOUT KEYS ARGS $ -1 0 1 2 3 99999999999999999999 a b".split()))


@given(WORDS)
def test_any_words_are_described_or_refused(words: list[bytes]):
    """Errors are kept until their turn, and a description without an error has the counts that it names."""
    for call in (parse_modelexecute(words), parse_modelrun(words)):
        if call.error is None:
            assert (len(call.inputs), len(call.outputs)) == (call.input_count, call.output_count)
            call.check(len(call.inputs), len(call.outputs))
        else:
            assert refused(call, call.input_count or 1, call.output_count or 1) == call.error.wire
    for described in (parse_scriptexecute(words, in_dag=True), parse_scriptrun(words)):
        if described.error is None:
            described.check()
