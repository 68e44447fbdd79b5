"""Random DAGs do what their operations do one after another, as a reader of the command would carry them out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.connection import Connection, connected
from support.gateway import Pair
from support.replies import NA, OK, array, error, tensor
from support.tiny_models import product_and_sum

NAMES = ("a", "b", "c", "d")
Row = tuple[int, ...]
Failures = dict[tuple[int, int], bytes]  # of a run, by the numbers of columns of its two inputs


def setting(name: str, row: Row) -> str:
    return f"AI.TENSORSET {name} FLOAT 1 {len(row)} VALUES {' '.join(map(str, row))}"


def getting(row: Row) -> bytes:
    """What AI.TENSORGET answers for a row."""
    return tensor("FLOAT", (1, len(row)), np.array(row, "<f4").tobytes())


@dataclass(frozen=True)
class Set:
    name: str
    row: Row

    def words(self, key: str, model: str, *, deprecated: bool) -> str:
        return setting(f"{key}:{self.name}", self.row)

    def carry_out(self, values: dict[str, Row | None], failures: Failures) -> bytes:
        values[self.name] = self.row
        return OK


@dataclass(frozen=True)
class Get:
    name: str

    def words(self, key: str, model: str, *, deprecated: bool) -> str:
        return f"AI.TENSORGET {key}:{self.name}"

    def carry_out(self, values: dict[str, Row | None], failures: Failures) -> bytes:
        row = values[self.name]
        return NA if row is None else getting(row)


@dataclass(frozen=True)
class Run:
    """Of the model that gives the product and the sum of two rows of the same length."""

    inputs: tuple[str, str]
    outputs: tuple[str, str]

    def words(self, key: str, model: str, *, deprecated: bool) -> str:
        count = "" if deprecated else "2 "
        inputs, outputs = (" ".join(f"{key}:{name}" for name in names) for names in (self.inputs, self.outputs))
        command = "AI.MODELRUN" if deprecated else "AI.MODELEXECUTE"
        return f"{command} {model} INPUTS {count}{inputs} OUTPUTS {count}{outputs}"

    def carry_out(self, values: dict[str, Row | None], failures: Failures) -> bytes:
        a, b = (values[name] for name in self.inputs)
        product, total = self.outputs
        values[product] = values[total] = None  # so it stays where the run fails
        if a is None or b is None:
            return NA
        if len(a) != len(b):
            return failures[len(a), len(b)]
        values[product] = tuple(x * y for x, y in zip(a, b, strict=True))
        values[total] = tuple(x + y for x, y in zip(a, b, strict=True))
        return OK


@dataclass(frozen=True)
class Dag:
    """A DAG, and the rows that stand under its names as keys when it comes."""

    before: dict[str, Row]
    load: list[str]
    persist: list[str]
    operations: list[Set | Get | Run]
    deprecated: bool

    def command(self, key: str, model: str) -> str:
        """One of the four commands; without PERSIST one that only reads."""
        name = f"AI.DAG{'RUN' if self.deprecated else 'EXECUTE'}{'' if self.persist else '_RO'}"
        scopes = [
            " ".join([scope, str(len(names)), *(f"{key}:{name}" for name in names)])
            for scope, names in (("LOAD", self.load), ("PERSIST", self.persist))
            if names
        ]
        operations = [operation.words(key, model, deprecated=self.deprecated) for operation in self.operations]
        return " ".join([name, "ROUTING", key, *scopes, "|>", " |> ".join(operations)])

    def carried_out(self, failures: Failures) -> tuple[bytes, dict[str, Row | None]]:
        """What is answered, and what the keys hold afterwards."""
        values: dict[str, Row | None] = {name: self.before[name] for name in self.load}
        answers = []
        for operation in self.operations:
            try:
                answers.append(operation.carry_out(values, failures))
            except KeyError:
                return error("ERR INPUT key cannot be found in DAG"), {**self.before}
        if not set(self.persist) <= set(values):
            return error("ERR PERSIST key cannot be found in DAG"), {**self.before}
        failed = any(answer.startswith((b"-", NA)) for answer in answers)
        return array(answers), {**self.before, **{name: values[name] for name in self.persist if not failed}}


names = st.sampled_from(NAMES)
rows = st.sampled_from([(1, 2), (3, -1), (2, 2, 2)])  # a row of two can't be added to one of three
pairs = st.tuples(names, names)
operations = st.builds(Set, names, rows) | st.builds(Get, names) | st.builds(Run, pairs, pairs)
dags = st.builds(
    Dag,
    before=st.fixed_dictionaries(dict.fromkeys(NAMES, rows)),
    load=st.lists(names, unique=True, max_size=3),
    persist=st.lists(names, unique=True, max_size=2),
    operations=st.lists(operations, min_size=1, max_size=8),
    deprecated=st.booleans(),
)


@pytest.fixture(scope="module")
def model(pair: Pair) -> Iterator[str]:
    key = "dag-meaning:model"
    client = pair.engine.client()
    client.execute_command("AI.MODELSTORE", key, "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    yield key
    client.delete(key)


@pytest.fixture(scope="module")
def failures(pair: Pair, model: str) -> Failures:
    """What runs alone answer that fail."""
    found = {}
    with connected(pair.engine) as wire:
        for columns in ((2, 3), (3, 2)):
            a, b = inputs = [f"dag-meaning:{count}" for count in columns]
            wire.send(*(f"AI.TENSORSET {name} FLOAT 1 {count}" for name, count in zip(inputs, columns, strict=True)))
            wire.replies(2)
            found[columns] = wire.ask(f"AI.MODELEXECUTE {model} INPUTS 2 {a} {b} OUTPUTS 2 dag-meaning:p dag-meaning:s")
            wire.ask(f"DEL {a} {b}")
    assert all(answer.startswith(b"-") for answer in found.values())
    return found


@settings(max_examples=300)
@given(dag=dags)
def test_any_dag_does_what_its_operations_do_one_after_another(
    wire: Connection, key: str, model: str, failures: Failures, dag: Dag
):
    """
    Names given twice, chains, failures in the middle, LOAD and PERSIST, of all four commands.

    What could not run because of a failure is NA; what has nothing to do with it runs; nothing is persisted then.
    """
    wire.send(*(setting(f"{key}:{name}", dag.before[name]) for name in NAMES))
    wire.replies(len(NAMES))

    reply = wire.ask(dag.command(key, model))
    wire.send(*(f"AI.TENSORGET {key}:{name}" for name in NAMES))
    after = wire.replies(len(NAMES))

    expected, rows_after = dag.carried_out(failures)
    assert reply == expected
    assert after == [getting(rows_after[name] or ()) for name in NAMES]
