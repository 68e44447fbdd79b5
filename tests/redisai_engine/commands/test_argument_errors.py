"""
Every command of RedisAI, spoiled in every way that a table can name: the reply is the one of RedisAI 1.2.7.

What RedisAI says is written down in `support/redisai_arguments.py`, apart from the engine's own grammar.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise

import pytest

from support.connection import Connection, encoded
from support.gateway import store_model
from support.redisai_arguments import Reader
from support.replies import OK, array
from support.torch_scripts import ADD

KEYWORDS = frozenset(
    (
        *("|>", "ARGS", "BATCHSIZE", "BLOB", "ENTRY_POINTS", "INPUTS", "KEYS", "LOAD", "MINBATCHSIZE"),
        *("MINBATCHTIMEOUT", "OUTPUTS", "PERSIST", "ROUTING", "SOURCE", "TAG", "TIMEOUT", "VALUES"),
    )
)
RUNS = ("AI.MODELEXECUTE", "AI.MODELRUN", "AI.SCRIPTEXECUTE", "AI.SCRIPTRUN", "AI.DAG")
IN_TRANSACTION = "ERR Cannot run RedisAI command within a transaction or a LUA script"

COMMANDS = [
    "AI.TENSORSET {t} FLOAT 1 2 VALUES 1 2",
    "AI.TENSORSET {t} INT8 2 BLOB ab",
    "AI.TENSORGET {a} META VALUES",
    "AI.MODELSTORE {new} ONNX CPU TAG v BATCHSIZE 4 MINBATCHSIZE 2 MINBATCHTIMEOUT 5 BLOB x",
    "AI.MODELSTORE {new} TF CPU TAG v BATCHSIZE 4 INPUTS 2 a b OUTPUTS 1 y BLOB x",
    "AI.MODELSTORE {new} TFLITE GPU:1 BATCHSIZE 4 BLOB x",
    "AI.MODELSET {new} ONNX CPU TAG v BATCHSIZE 4 MINBATCHSIZE 2 MINBATCHTIMEOUT 5 BLOB x",
    "AI.MODELSET {new} TF CPU TAG v BATCHSIZE 4 INPUTS a b OUTPUTS y BLOB x",
    "AI.MODELSET {new} TFLITE CPU BATCHSIZE 4 BLOB x",
    "AI.SCRIPTSTORE {new} CPU TAG v ENTRY_POINTS 1 f SOURCE x",
    "AI.SCRIPTSET {new} CPU TAG v SOURCE x",
    "AI.MODELEXECUTE {m} INPUTS 2 {a} {b} OUTPUTS 1 {y} TIMEOUT 60000",
    "AI.MODELEXECUTE {none} INPUTS 2 {a} {none} OUTPUTS 1 {y}",
    "AI.MODELRUN {m} TIMEOUT 60000 INPUTS {a} {b} OUTPUTS {y}",
    (
        "AI.DAGEXECUTE LOAD 2 {a} {b} PERSIST 1 {y} ROUTING {r} TIMEOUT 60000 |> AI.MODELEXECUTE {m} INPUTS 2 {a} {b}"
        " OUTPUTS 1 {y} |> AI.TENSORGET {y} META VALUES |> AI.TENSORSET x FLOAT 2 VALUES 1 2"
    ),
    (
        "AI.DAGEXECUTE_RO ROUTING r LOAD 1 {a} |> AI.TENSORSET x FLOAT 2 VALUES 1 2 |> AI.MODELEXECUTE {m} INPUTS 2 {a}"
        " x OUTPUTS 1 y |> AI.TENSORGET y"
    ),
    "AI.DAGEXECUTE ROUTING r |> AI.TENSORGET x |> AI.MODELEXECUTE {m} INPUTS 2 x x OUTPUTS 1 y |> AI.TENSORGET y META",
    (
        "AI.DAGRUN LOAD 2 {a} {b} PERSIST 1 {y} TIMEOUT 60000 |> AI.MODELRUN {m} INPUTS {a} {b} OUTPUTS {y}"
        " |> AI.TENSORGET {y}"
    ),
]
SCRIPT_COMMANDS = [
    "AI.SCRIPTEXECUTE {s} add KEYS 1 {k} INPUTS 2 {a} {b} ARGS 1 x OUTPUTS 1 {y} TIMEOUT 60000",
    "AI.SCRIPTRUN {s} add TIMEOUT 60000 INPUTS {a} $ {b} OUTPUTS {y}",
    (
        "AI.DAGEXECUTE ROUTING r |> AI.TENSORSET x FLOAT 2 VALUES 1 2 |> AI.SCRIPTEXECUTE {s} add ARGS 1 z INPUTS 2 x x"
        " OUTPUTS 1 y |> AI.TENSORGET y"
    ),
    "AI.DAGEXECUTE_RO ROUTING r |> AI.SCRIPTEXECUTE {s} add INPUTS 2 x x OUTPUTS 1 y",
    "AI.DAGRUN |> AI.TENSORSET x FLOAT 2 VALUES 1 2 |> AI.SCRIPTRUN {s} add INPUTS x $ x OUTPUTS y |> AI.TENSORGET y",
    "AI.DAGRUN_RO LOAD 1 {a} |> AI.SCRIPTRUN {s} add INPUTS {a} $ {a} OUTPUTS y |> AI.TENSORGET y",
]


def spoiled(words: list[str]) -> Iterator[list[str]]:
    """Cut it after each word; change each number; move, leave out, repeat and swap clauses; add words at the end."""
    yield words
    yield from (words[:end] for end in range(1, len(words)))
    for place, word in enumerate(words):
        if word.isdigit():
            yield from ([*words[:place], other, *words[place + 1 :]] for other in _other_numbers(int(word)))
    clauses = _clauses(words)
    for place, clause in enumerate(clauses[1:], 1):
        before, behind = clauses[:place], clauses[place + 1 :]
        for changed in ([*before, *behind], [*before, *behind, clause], [*before, clause, clause, *behind]):
            yield [*chain(*changed)]
        yield [*words, *clause]
        yield [*words, clause[0]]
        yield [*chain(*before, *behind[:1], clause, *behind[1:])]
    yield [*words, "x"]


def _other_numbers(number: int) -> list[str]:
    near = [number - 1, number + 1, 0, -1, -2, -1000, 99, 2**62, -(2**63)]
    odd = ["x", "", "1e3", f"{number}.0", f"0{number}", f" {number}", f"{number} ", f"+{number}", f"{2**63}"]
    return [*map(str, near), *odd]


def _clauses(words: list[str]) -> list[list[str]]:
    """Cut in front of each keyword; the first clause is what no keyword opens."""
    edges = [0, *(place for place, word in enumerate(words) if word in KEYWORDS), len(words)]
    return [words[low:high] for low, high in pairwise(edges)]


def _cases(command: str, key: str) -> list[tuple[list[str], str | None]]:
    """Return what is sent, and RedisAI's error. What would store a model or a script is left out."""
    names = {name: f"{key}:{name}" for name in ("a", "b", "k", "m", "new", "none", "r", "s", "t", "y")}
    kinds = {names["a"]: "tensor", names["b"]: "tensor", names["m"]: "model", names["s"]: "script"}
    unique = {tuple(words): words for words in spoiled(command.format(**names).split(" "))}
    read = [(words, Reader(kinds).error_of(words)) for words in unique.values()]
    stores = command.startswith(("AI.MODELSTORE", "AI.MODELSET", "AI.SCRIPTSTORE", "AI.SCRIPTSET"))
    return [(words, error) for words, error in read if error is not None or not stores]


@pytest.fixture
def stored(wire: Connection, key: str) -> str:
    store_model(wire, f"{key}:m")
    for name in ("a", "b"):
        assert wire.ask(f"AI.TENSORSET {key}:{name} FLOAT 2 VALUES 1 2") == OK
    return key


@pytest.fixture
def stored_script(wire: Connection, stored: str) -> str:
    assert wire.ask("AI.SCRIPTSTORE", f"{stored}:s", "CPU", "ENTRY_POINTS", 1, "add", "SOURCE", ADD) == OK
    return stored


def _check(wire: Connection, cases: list[tuple[list[str], str | None]]) -> None:
    assert len(cases) > 5
    wire.send(*(encoded(tuple(words)) for words, _ in cases))
    wrong = [
        f"{' '.join(words)}\n  expected {error}\n  got      {reply[:200]!r}"
        for (words, error), reply in zip(cases, wire.replies(len(cases)), strict=True)
        if (reply.startswith(b"-ERR ") if error is None else reply != f"-{error}\r\n".encode())
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("command", COMMANDS)
def test_errors_are_those_of_redisai(wire: Connection, stored: str, command: str):
    _check(wire, _cases(command, stored))


@pytest.mark.parametrize("command", SCRIPT_COMMANDS)
def test_errors_of_scripts_are_those_of_redisai(wire: Connection, stored_script: str, command: str):
    pytest.importorskip("torch")
    _check(wire, _cases(command, stored_script))


@pytest.mark.parametrize("command", COMMANDS)
def test_in_a_transaction_the_same_errors_are_elements_of_the_reply(wire: Connection, stored: str, command: str):
    cases = [(words, error) for words, error in _cases(command, stored) if error is not None]
    if command.startswith(RUNS):  # refused before their arguments are looked at
        cases = [(words, IN_TRANSACTION) for words, _ in cases]
    wire.send("MULTI", *(encoded(tuple(words)) for words, _ in cases), "EXEC")

    assert wire.replies(1 + len(cases)) == [OK, *[b"+QUEUED\r\n"] * len(cases)]
    assert wire.reply() == array([f"-{error}\r\n".encode() for _, error in cases])
