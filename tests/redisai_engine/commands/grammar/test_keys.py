"""The keys that a request names, as RedisAI 1.2.7 collects them."""

from __future__ import annotations

import pytest

import redisai_engine.commands.ai
import redisai_engine.commands.plain  # noqa: F401  # registers all commands in the table
from redisai_engine.commands.grammar import keys
from redisai_engine.commands.table import COMMANDS


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("AI.TENSORSET t FLOAT 1 VALUES 1", "t"),
        ("AI.MODELSTORE m ONNX CPU BLOB x", "m"),
        ("AI.MODELEXECUTE m INPUTS 2 a b OUTPUTS 1 c", "m a b c"),
        ("AI.MODELEXECUTE m INPUTS 1 a OUTPUTS 3 x y z TIMEOUT 10", "m a x y z"),
        ("AI.MODELEXECUTE m INPUTS 0 OUTPUTS 0", "m"),
        ("AI.MODELRUN m INPUTS a b OUTPUTS c", "m a b c"),
        ("AI.MODELRUN m TIMEOUT 5 INPUTS a OUTPUTS c", "m a c"),
        ("AI.DAGEXECUTE LOAD 2 a b PERSIST 1 c |> AI.MODELEXECUTE m INPUTS 2 a b OUTPUTS 1 c", "a b c m"),
        ("AI.DAGEXECUTE ROUTING r |> AI.TENSORSET x FLOAT 1 VALUES 1", "r"),
        ("ai.dagexecute_ro load 1 a |> ai.tensorget a", "a"),
        ("AI.DAGRUN LOAD 1 a |> AI.MODELRUN m INPUTS a OUTPUTS c", "a"),
    ],
)
def test_the_keys_of_a_request(request_: str, expected: str):
    arguments = request_.encode().split()

    assert COMMANDS[arguments[0].upper()].keys.of(arguments) == expected.encode().split()


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("AI.MODELEXECUTE m", ""),
        ("AI.MODELEXECUTE m INPUTS x a OUTPUTS 1 c", "m"),
        ("AI.MODELEXECUTE m INPUTS -1 a OUTPUTS 1 c", "m"),
        ("AI.MODELEXECUTE m INPUTS 1 a OUTPUTS 9 c", "m"),
        ("AI.MODELEXECUTE m INPUTS 1 a", "m"),
        ("AI.MODELEXECUTE m INPUTS 1 a OUTPUTS -1 c", "m a"),  # a negative count moves back
        ("AI.MODELEXECUTE m INPUTS 1 a OUTPUTS -9 c", "m"),
        ("AI.MODELEXECUTE m INPUTS -1 1 c", "m c"),
        ("AI.MODELEXECUTE m INPUTS -9 1 c", "m"),
        ("AI.MODELRUN m", "m"),
        ("AI.DAGEXECUTE LOAD 9 a |> AI.TENSORGET a", ""),
        ("AI.DAGEXECUTE LOAD", ""),
        ("AI.DAGEXECUTE LOAD -1 a ROUTING r |> AI.TENSORGET a", "r"),
        ("AI.DAGEXECUTE LOAD -99 a ROUTING r |> AI.TENSORGET a", ""),
        ("AI.DAGEXECUTE LOAD 0 ROUTING r |> AI.TENSORGET a", "r"),
        ("AI.DAGEXECUTE ROUTING", ""),
    ],
)
def test_a_wrong_request_has_the_keys_up_to_what_is_wrong(request_: str, expected: str):
    arguments = request_.encode().split()

    assert COMMANDS[arguments[0]].keys.of(arguments) == expected.encode().split()


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("AI.SCRIPTEXECUTE s f KEYS 1 k INPUTS 1 a TIMEOUT 10", "s k a"),
        ("AI.SCRIPTEXECUTE s f KEYS 1 k OUTPUTS 1 c TIMEOUT 10", "s k c"),
        ("AI.SCRIPTEXECUTE s f INPUTS 2 a b OUTPUTS 1 c", "s a b"),  # the list at the very end doesn't count
        ("AI.SCRIPTEXECUTE s f INPUTS 1 a ARGS 1 x OUTPUTS 1 c", "s a"),  # nor does anything after ARGS
        ("AI.SCRIPTEXECUTE s f INPUTS x a OUTPUTS 1 c", "s"),
        ("AI.SCRIPTEXECUTE s f INPUTS 0 KEYS 1 k TIMEOUT 5", "s"),
        ("AI.SCRIPTEXECUTE s f INPUTS -1 KEYS 1 k TIMEOUT 5", "s"),
        ("AI.SCRIPTEXECUTE s f LIST_INPUT 1 a TIMEOUT 5", "s"),
        ("AI.SCRIPTEXECUTE s f INPUTS 1", ""),
    ],
)
def test_the_keys_of_a_script(request_: str, expected: str):
    assert keys.scriptexecute_keys(request_.encode().split()) == expected.encode().split()


def test_the_keys_of_a_script_in_the_deprecated_form():
    assert keys.scriptrun_keys(b"AI.SCRIPTRUN s f INPUTS a b OUTPUTS c".split()) == [b"s", b"a", b"b", b"c"]


@pytest.mark.parametrize(
    "words", ["INPUTS $ a b OUTPUTS c", "INPUTS a $ b OUTPUTS c", "TIMEOUT 5 INPUTS a b $ OUTPUTS c"]
)
def test_the_mark_of_a_list_is_no_key(words: str):
    assert keys.scriptrun_keys(f"AI.SCRIPTRUN s f {words}".encode().split()) == [b"s", b"a", b"b", b"c"]
