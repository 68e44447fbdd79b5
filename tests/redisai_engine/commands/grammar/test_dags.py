"""Errors in the scopes of a DAG: at the very end, with counts that are zero, too small, or too large."""

from __future__ import annotations

import pytest

from redisai_engine.commands.grammar.dags import parse_dag

UNEXPECTED = "ERR Invalid DAG command. Unexpected argument:  "
BAD = "ERR invalid or negative value found in number of keys to "
MISSING = "ERR missing arguments after %s keyword in DAG command"
TOO_FEW = {
    "LOAD": "ERR number of keys to LOAD into DAG does not match the number of given arguments",
    "PERSIST": "ERR number of keys to PERSIST after DAG execution does not match the number of given arguments",
}


def error_of(words: str, *, read_only: bool = False) -> str | None:
    dag = parse_dag(f"AI.DAGEXECUTE {words}".encode().split(), read_only=read_only, deprecated=False)
    error = dag.scopes_error or dag.operations_error
    return None if error is None else error.wire


@pytest.mark.parametrize("before", ["", "ROUTING r TIMEOUT 5 "])
@pytest.mark.parametrize("scope", ["LOAD", "PERSIST"])
@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("", MISSING),
        (" 1", MISSING),
        (" 0", MISSING),
        (" x", MISSING),
        (" 0 a", BAD + "%s"),
        (" -1 a", BAD + "%s"),
        (" a |> AI.TENSORGET a", BAD + "%s"),
        (" 1 a", "ERR DAG is empty"),
        (" 1 a |>", UNEXPECTED + "|>"),
        (" 1 a b |> AI.TENSORGET a", UNEXPECTED + "b"),
        (" 2 a |> AI.TENSORGET a", UNEXPECTED + "AI.TENSORGET"),  # the separator is a key
        (" 9 a |> AI.TENSORGET b", None),
    ],
)
def test_a_scope_that_can_not_be_read(before: str, scope: str, words: str, error: str | None) -> None:
    expected = TOO_FEW[scope] if error is None else error % scope if "%s" in error else error

    assert error_of(f"{before}{scope}{words}") == expected


def test_keys_that_are_there_are_looked_up_before_their_number_is_told() -> None:
    dag = parse_dag(b"AI.DAGEXECUTE ROUTING r LOAD 3 a b".split(), read_only=False, deprecated=False)

    assert dag.load == [b"a", b"b"]
    assert dag.scopes_error is not None
    assert dag.scopes_error.wire == TOO_FEW["LOAD"]


@pytest.mark.parametrize("words", ["PERSIST", "PERSIST 1", "PERSIST 0 a"])
def test_a_read_only_dag_refuses_the_scope_before_its_count(words: str) -> None:
    assert error_of(words, read_only=True) == "ERR PERSIST cannot be specified in a read-only DAG"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("|> AI.TENSORGET a VALUES |>", UNEXPECTED + "|>"),  # before the missing scope
        ("ROUTING", "ERR Missing ROUTING value"),
        ("LOAD 1 a TIMEOUT", "ERR No value provided for TIMEOUT"),
        ("LOAD 1 a TIMEOUT x", "ERR Invalid value for TIMEOUT"),
        ("LOAD 1 a ROUTING r ROUTING q |> AI.TENSORGET a", UNEXPECTED + "ROUTING"),
    ],
)
def test_other_words_that_can_not_be_read(words: str, error: str) -> None:
    assert error_of(words) == error
