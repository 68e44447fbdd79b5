"""The tables of operators agree with ONNX and with the installed ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from onnx import defs

import support
from redisai_engine.backends.deadly.operators import (
    ALL_THE_SAME,
    DEADLY,
    NEVER_INTEGERS,
    PASSING,
    SAME_OUTPUTS,
    SAME_TYPE,
)

HISTORY = [each for each in defs.get_all_schemas_with_history() if each.domain in ("", "ai.onnx.ml")]
KNOWN = {(each.domain, each.name) for each in HISTORY}
INTEGERS = {"tensor(int32)", "tensor(int64)"}


def versions(operators: Iterable[tuple[str, str]]) -> list[defs.OpSchema]:
    """Return all versions of these operators that there have been."""
    assert set(operators) <= KNOWN
    return [each for each in HISTORY if (each.domain, each.name) in operators]


def types(schema: defs.OpSchema, name: str) -> set[str]:
    """Return the types that a type variable stands for, or the type itself."""
    allowed = {each.type_param_str: set(each.allowed_type_strs) for each in schema.type_constraints}
    return allowed.get(name, {name})


def test_what_never_returns_integers_is_never_described_as_doing_so() -> None:
    for schema in versions(NEVER_INTEGERS):
        found = types(schema, schema.outputs[0].type_str)

        assert not found & INTEGERS, schema.name
        assert all(each.startswith("tensor(") for each in found), schema.name


def test_what_has_the_same_type_is_described_by_the_same_variable() -> None:
    for schema in versions(SAME_TYPE):
        kind = schema.outputs[0].type_str
        for position in SAME_TYPE[schema.domain, schema.name]:
            if position < len(schema.inputs):
                assert schema.inputs[position].type_str == kind, schema.name
                assert schema.inputs[position].option.name != "Variadic", schema.name


def test_inputs_of_which_there_may_be_many_are_of_one_type() -> None:
    for schema in versions(ALL_THE_SAME):
        assert {each.type_str for each in schema.inputs} == {schema.outputs[0].type_str}, schema.name
        assert all(each.is_homogeneous for each in schema.inputs), schema.name


def test_outputs_of_which_there_may_be_many_are_of_one_type() -> None:
    for schema in versions(SAME_OUTPUTS):
        assert len(schema.outputs) == 1
        assert schema.outputs[0].is_homogeneous


def test_what_passes_values_on_has_them_first() -> None:
    assert {operator for operator, positions in SAME_TYPE.items() if positions == (0,)} >= PASSING


def test_the_deadly_are_real_operators() -> None:
    assert set(DEADLY) <= KNOWN


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_other_operator_ends_the_process_by_extreme_integers() -> None:
    """A new version of ONNX Runtime may have others: then they belong into the table."""
    command = [sys.executable, str(Path(support.__file__).with_name("extreme_integers.py"))]

    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500).stdout

    *dead, last = found.splitlines()
    died = {line.split()[0] for line in dead}
    assert int(last.split()[0]) > 500, "so many forms of operators were run"
    assert died <= {name for _, name in DEADLY}
    assert "Div" in died
