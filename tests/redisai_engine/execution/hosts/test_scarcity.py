"""The system refuses a host one of the descriptors that it takes: the client is told, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from support.connection import Connect, Connection
from support.hosts import hosts_of
from support.replies import OK
from support.scarcity import few_descriptors, held, needs_prlimit
from support.servers import Server
from support.tiny_models import product_and_sum
from support.torch_scripts import ADD, needs_torch
from support.waiting import wait_until

pytestmark = [needs_prlimit, pytest.mark.slow]

MOST_FREE = 20  # descriptors: more than a host takes, with the process that it is forked from
REFUSED = b"Too many open files\r\n"


@dataclass(frozen=True)
class Kind:
    """How something that runs in a host is stored under a key, run and deleted."""

    store: Callable[[Connection], bytes]
    run: str
    delete: str


def model(backend: str) -> Kind:
    return Kind(
        lambda wire: wire.ask("AI.MODELSTORE", "m", backend, "CPU", "BLOB", product_and_sum(backend).blob),
        "AI.MODELEXECUTE m INPUTS 2 a a OUTPUTS 2 y z",
        "AI.MODELDEL m",
    )


KINDS = {
    "TORCH": model("TORCH"),
    "TFLITE": model("TFLITE"),  # whose small models share hosts
    "script": Kind(
        lambda wire: wire.ask("AI.SCRIPTSTORE", "m", "CPU", "ENTRY_POINTS", 1, "add", "SOURCE", ADD),
        "AI.SCRIPTEXECUTE m add INPUTS 2 a a OUTPUTS 1 y",
        "AI.SCRIPTDEL m",
    ),
}


def refused_until_enough(kind: Kind, engine: Server, wire: Connection) -> int:
    """Store with ever more free descriptors until that works, and leaves nothing before. Return how many it took."""
    before = held(engine)
    for free in range(MOST_FREE):
        with few_descriptors(engine, free):
            told = kind.store(wire)
        if told == OK:
            break
        assert told.endswith(REFUSED), told
        assert b"engine failed" not in told
        wait_until(lambda: held(engine) == before, what=f"leaving nothing, with {free} free")
    return free


@needs_torch
@pytest.mark.parametrize("name", KINDS)
def test_a_host_that_is_refused_a_descriptor_leaves_nothing(
    name: str, new_engine: Callable[..., Server], connect: Connect
) -> None:
    kind, engine = KINDS[name], new_engine()
    wire = connect(engine)
    wire.socket.settimeout(60)  # a framework is imported
    assert wire.ask("AI.TENSORSET a FLOAT 1 2 VALUES 1 2") == OK

    for _ in range(2):  # the second time with the process that hosts are forked from
        assert refused_until_enough(kind, engine, wire)  # with no descriptor, it must be refused
        assert wire.ask(kind.run) == OK
        assert wire.ask(kind.delete) == OK
        wait_until(lambda: not hosts_of(engine), what="the end of the host")


@needs_torch
def test_a_model_that_is_refused_hosts_is_not_one_that_keeps_dying(
    new_engine: Callable[..., Server], connect: Connect
) -> None:
    kind, engine = KINDS["TORCH"], new_engine()
    wire = connect(engine)
    wire.socket.settimeout(60)
    assert wire.ask("AI.TENSORSET a FLOAT 1 2 VALUES 1 2") == OK
    assert kind.store(wire) == OK
    (host,) = hosts_of(engine)
    host.kill()

    with few_descriptors(engine, 1):
        told = [wire.ask(kind.run) for _ in range(10)]

    assert told[0].endswith(b"the next run starts another one\r\n"), told[0]
    assert all(each.endswith(REFUSED) for each in told[1:]), told
    assert wire.ask(kind.run) == OK


def test_a_probation_that_is_refused_a_descriptor_leaves_nothing(
    new_engine: Callable[..., Server], connect: Connect
) -> None:
    kind, engine = model("ONNX"), new_engine()
    wire = connect(engine)
    assert wire.ask("AI.TENSORSET a FLOAT 1 2 VALUES 1 2") == OK

    refused_until_enough(kind, engine, wire)

    assert wire.ask(kind.run) == OK
