"""Models in processes of their own: what one of them does is the error of one request, and no other client notices."""

from __future__ import annotations

import contextlib
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from redisai_engine.protocol.frames import ReplyError, decode
from support.hosts import hosts_of, parents_of, torch_loop
from support.servers import Server, start_engine
from support.tiny_models import product_and_sum
from support.torch_scripts import needs_torch
from support.waiting import is_running, wait_until
from support.wire import Wire

pytestmark = [needs_torch, pytest.mark.slow]

LIMIT_MS = 1000
OVER_LIMIT = (
    "ERR the run takes longer than model-execution-timeout allows; its process was ended, and the next run starts "
    "another one"
)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that stops runs after a second."""
    engine = start_engine(tmp_path_factory.mktemp("hosts"), "--model-execution-timeout", str(LIMIT_MS))
    yield engine
    engine.stop()


@pytest.fixture
def wire(serving: Server) -> Iterator[Wire]:
    """A connection to an engine that has nothing in memory."""
    with Wire(serving.port) as wire:
        yield wire
        for key in ("m", "loop"):
            wire.ask("AI.MODELDEL", key)


def store(wire: Wire, key: str, blob: bytes) -> None:
    assert wire.ask("AI.MODELSTORE", key, "TORCH", "CPU", "BLOB", blob) == b"OK"


def run_loop(wire: Wire, value: float) -> object:
    """Run the model `loop`, which ends for 0 only."""
    wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", value)
    return wire.ask("AI.MODELEXECUTE", "loop", "INPUTS", 1, "x", "OUTPUTS", 1, "y")


def stored(serving: Server, wire: Wire, key: str, blob: bytes) -> psutil.Process:
    """Store a model and return its host. Those of earlier tests may not have ended yet."""
    before = hosts_of(serving)
    store(wire, key, blob)
    (host,) = [host for host in hosts_of(serving) if host not in before]
    return host


def product(wire: Wire, key: str) -> object:
    """Return the first output of `product_and_sum` for 2 and 3."""
    wire.ask("AI.TENSORSET", "a", "FLOAT", 1, 1, "VALUES", 2)
    wire.ask("AI.TENSORSET", "b", "FLOAT", 1, 1, "VALUES", 3)
    reply = wire.ask("AI.MODELEXECUTE", key, "INPUTS", 2, "a", "b", "OUTPUTS", 2, "p", "s")
    return struct.unpack("<f", wire.ask("AI.TENSORGET", "p", "BLOB"))[0] if reply == b"OK" else reply  # type: ignore[arg-type]


def test_a_model_runs_in_a_process_of_its_own_and_the_engine_has_no_framework(serving: Server, wire: Wire) -> None:
    host = stored(serving, wire, "m", product_and_sum("TORCH").blob)

    assert product(wire, "m") == 6

    assert is_running(host.pid)
    assert "libtorch" not in Path(f"/proc/{serving.process.pid}/maps").read_text()
    assert b"Torch_version" in wire.raw("INFO", "MODULES") + wire.raw("INFO", "ai")


def test_a_run_over_its_limit_ends_its_process_and_nothing_else(serving: Server, wire: Wire) -> None:
    first = stored(serving, wire, "loop", torch_loop())
    store(wire, "m", product_and_sum("TORCH").blob)

    with Wire(serving.port) as other:
        wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", 1)
        wire.send("AI.MODELEXECUTE", "loop", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
        assert other.ask("GET", "nothing") is None

        assert decode(wire.receive()) == ReplyError(OVER_LIMIT)
        assert not is_running(first.pid)
        assert product(other, "m") == 6
    assert run_loop(wire, 0) == b"OK"


def test_a_process_that_dies_is_the_error_of_one_request(serving: Server, wire: Wire) -> None:
    host = stored(serving, wire, "m", product_and_sum("TORCH").blob)

    host.send_signal(signal.SIGSEGV)
    wait_until(lambda: not is_running(host.pid))

    assert product(wire, "m") == ReplyError(
        "ERR the model's process ended by signal 11 (SIGSEGV); the next run starts another one"
    )
    assert product(wire, "m") == 6


def test_a_model_whose_process_keeps_dying_has_failed_until_it_is_stored_anew(serving: Server, wire: Wire) -> None:
    store(wire, "m", product_and_sum("TORCH").blob)
    replies = []
    while "has failed" not in str(replies[-1:]) and len(replies) < 100:
        for host in hosts_of(serving):
            with contextlib.suppress(psutil.NoSuchProcess):
                host.kill()
        wait_until(lambda: not hosts_of(serving))
        replies.append(product(wire, "m"))

    assert replies[-1] == ReplyError(
        "ERR the model has failed: its process has died 5 times within a minute; store it anew"
    )
    store(wire, "m", product_and_sum("TORCH").blob)
    assert product(wire, "m") == 6


def test_the_parent_of_all_processes_may_die_too(serving: Server, wire: Wire) -> None:
    host = stored(serving, wire, "m", product_and_sum("TORCH").blob)
    (parent,) = parents_of(serving)

    parent.kill()
    wait_until(lambda: parent not in parents_of(serving) and not is_running(host.pid))

    assert isinstance(product(wire, "m"), ReplyError)
    wait_until(lambda: product(wire, "m") == 6)  # importing the framework may take longer than a run may


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_engine_even_if_a_model_loops(
    new_engine: Callable[..., Server], number: signal.Signals
) -> None:
    engine = new_engine("--model-execution-timeout", "2000")
    with Wire(engine.port) as wire:
        store(wire, "loop", torch_loop())
        wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", 1)
        processes = [process.pid for process in parents_of(engine) + hosts_of(engine)]
        assert len(processes) == 2
        wire.send("AI.MODELEXECUTE", "loop", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
        wire.send("PING")

        engine.process.send_signal(number)

        engine.process.wait(30)
        wait_until(lambda: not any(map(is_running, processes)))
