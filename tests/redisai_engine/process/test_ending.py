"""SIGTERM ends the engine and all its processes within `--shutdown-timeout`, even if runs have no limit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from operator import sub

import psutil
import pytest

from support.hosts import torch_loop
from support.servers import Server
from support.tiny_models import onnx_counter, onnx_pooling
from support.torch_scripts import entry_point, needs_torch
from support.waiting import is_running, wait_until
from support.wire import Wire

pytestmark = pytest.mark.slow

SECONDS = 5
ENOUGH_S = SECONDS + 25  # a busy machine delays everything


def stored(wire: Wire, *words: bytes | str | int) -> None:
    assert wire.ask(*words) == b"OK"


def count(wire: Wire) -> None:
    """A run in a thread that would stop if it were told to."""
    stored(wire, "AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", onnx_counter())
    wire.ask("AI.TENSORSET", "n", "INT64", 1, "VALUES", 10**12)
    wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", 0)
    wire.send("AI.MODELEXECUTE", "m", "INPUTS", 2, "n", "x", "OUTPUTS", 1, "y")


def pool(wire: Wire) -> None:
    """A run in a thread that can't be stopped."""
    stored(wire, "AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", onnx_pooling())
    wire.ask("AI.TENSORSET", "n", "INT64", 4, "VALUES", 1, 1, 6000, 3000)
    wire.send("AI.MODELEXECUTE", "m", "INPUTS", 1, "n", "OUTPUTS", 1, "y")


def loop(wire: Wire) -> None:
    """A run in a process of its own."""
    stored(wire, "AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", torch_loop())
    wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", 1)
    wire.send("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")


def talk(wire: Wire) -> None:
    """A script that prints."""
    source = entry_point("talk", "while True:", '    print("x")', "return tensors")
    stored(wire, "AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 1, "talk", "SOURCE", source)
    wire.ask("AI.TENSORSET", "x", "FLOAT", 1, "VALUES", 1)
    wire.send("AI.SCRIPTEXECUTE", "s", "talk", "INPUTS", 1, "x", "OUTPUTS", 1, "y")


def used(processes: list[psutil.Process]) -> list[float]:
    """Return the processor time of each process, in seconds."""
    return [process.cpu_times().user for process in processes]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "begin", [count, pool, pytest.param(loop, marks=needs_torch), pytest.param(talk, marks=needs_torch)]
)
def test_the_end_comes_in_time_and_nothing_is_left(
    new_engine: Callable[..., Server], begin: Callable[[Wire], None], workers: int
) -> None:
    engine = new_engine(
        *("--workers", str(workers), "--shutdown-timeout", str(SECONDS), "--model-execution-timeout", "0")
    )
    with Wire(engine.port) as wire:
        begin(wire)
        children = psutil.Process(engine.process.pid).children(recursive=True)
        processes = [psutil.Process(engine.process.pid), *children]
        before = used(processes)
        wait_until(lambda: max(map(sub, used(processes), before)) > 0.2, timeout_s=60, what="a process that computes")

        engine.process.send_signal(signal.SIGTERM)

        assert engine.process.wait(ENOUGH_S) in (0, 1)
        wait_until(lambda: not any(is_running(child.pid) for child in children))
