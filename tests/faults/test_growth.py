"""
Nothing stays in memory of what has come and gone: what each client of the soak does, again and again, one by one.

Memory is looked at when the engine has given back what is free, and compared with what it took when all clients had
done their work a few times. `scripts/test --faults soak` has all of them at work for ten minutes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from faults import memory, soak
from support.connection import connected
from support.replies import OK
from support.servers import Server
from support.tiny_models import onnx_with_weights
from support.torch_scripts import needs_torch
from support.waiting import wait_until

pytestmark = pytest.mark.slow

WARM_UP, TIMES = 5, 30
#: MiB. A model of the soak has one: if a third of what comes and goes stayed, that would be 10. All clients together
#: leave less than one behind.
GROWN = 5.0
LARGE = 8  # MiB of a model whose leaving is seen in what the engine takes


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[soak.Servers]:
    with soak.servers(tmp_path_factory.mktemp("growth")) as running:
        yield running


@pytest.fixture(scope="module")
def at_first(servers: soak.Servers) -> float:
    """What the engine takes when all clients have done their work a few times."""
    for work in soak.CLIENTS:
        if work is not soak.changes_a_script or importlib.util.find_spec("torch") is not None:
            do(servers, work, range(WARM_UP))
    return min(after_a_large_model(servers.engine) for _ in range(3))


def do(servers: soak.Servers, work: soak.Work, numbers: range) -> None:
    with ExitStack() as running:
        client = soak.Client(servers, running)
        for number in numbers:
            work(client, number)


def store_and_delete_a_large_model(engine: Server) -> float:
    """Return what the engine takes in between. What leaves has all free memory given back some seconds later."""
    blob = onnx_with_weights(LARGE * 2**20, seed=0)
    with connected(engine) as wire:
        assert wire.ask("AI.MODELSTORE", "growth:large", "ONNX", "CPU", "BLOB", blob) == OK
        peak = memory.of_engine(engine.process.pid)
        assert wire.ask("AI.MODELDEL growth:large") == OK
    return peak


def after_a_large_model(engine: Server) -> float:
    """Return what the engine takes when it has given memory back: perhaps what was free before, so do it repeatedly."""
    peak = store_and_delete_a_large_model(engine)
    return wait_until(lambda: below(engine, peak - LARGE / 2), what="the engine gives back what is free")


def below(engine: Server, most: float) -> float | None:
    """Return what the engine takes if it is less than that."""
    takes = memory.of_engine(engine.process.pid)
    return takes if takes < most else None


@pytest.mark.parametrize(
    "work",
    [pytest.param(work, marks=needs_torch if work is soak.changes_a_script else ()) for work in soak.CLIENTS],
    ids=lambda work: work.__name__,
)
def test_what_has_come_and_gone_takes_no_memory(servers: soak.Servers, at_first: float, work: soak.Work) -> None:
    do(servers, work, range(WARM_UP, WARM_UP + TIMES))
    store_and_delete_a_large_model(servers.engine)

    wait_until(lambda: below(servers.engine, at_first + GROWN), what="memory that is free")
