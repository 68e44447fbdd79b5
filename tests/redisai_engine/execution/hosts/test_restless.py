"""A model that leaves a thread behind computes for nobody: its process is ended, and only that one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.hosts import hosts_of, torch_restless
from support.servers import Server, start_engine
from support.tiny_models import product_and_sum
from support.torch_scripts import needs_torch
from support.waiting import is_running, wait_until
from support.wire import Wire

pytestmark = [needs_torch, pytest.mark.slow]


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Server]:
    engine = start_engine(tmp_path)
    yield engine
    engine.stop()


@pytest.fixture
def wire(serving: Server) -> Iterator[Wire]:
    with Wire(serving.port, timeout_s=60) as wire:
        yield wire


def host_of_next(serving: Server, wire: Wire, *command: object) -> psutil.Process:
    """Return the host that storing something starts."""
    before = hosts_of(serving)
    assert wire.ask(*command) == b"OK"
    (host,) = [host for host in hosts_of(serving) if host not in before]
    return host


def set_input(wire: Wire, value: float) -> None:
    wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", value)


def test_a_model_that_goes_on_after_its_answer(serving: Server, wire: Wire) -> None:
    quiet = host_of_next(serving, wire, "AI.MODELSTORE", "quiet", "TORCH", "CPU", "BLOB", product_and_sum("TORCH").blob)
    host = host_of_next(serving, wire, "AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", torch_restless())
    run = ("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")

    set_input(wire, 1)
    assert wire.ask(*run) == b"OK"

    wait_until(lambda: not is_running(host.pid))
    assert is_running(quiet.pid)
    assert "a process of a TORCH model was ended: it went on computing" in serving.log.read_text()
    set_input(wire, -1)
    assert wire.ask(*run) == b"OK"
    facts = wire.ask("AI.INFO", "m")
    assert "failed" not in str(facts)


def test_a_run_that_takes_long_is_no_such_thing(serving: Server, wire: Wire) -> None:
    """It computes for the client that waits for it."""
    host = host_of_next(serving, wire, "AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", torch_restless())
    set_input(wire, 1e7)

    reply = wire.ask("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")

    assert "model-execution-timeout" in str(reply)
    wait_until(lambda: not is_running(host.pid))
    assert "went on computing" not in serving.log.read_text()
