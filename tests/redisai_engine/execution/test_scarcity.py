"""The system refuses a thread: runs that need one are answered, and are served again once it can be had."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.connection import Connect
from support.replies import OK
from support.scarcity import needs_prlimit, no_threads
from support.servers import Server
from support.tiny_models import product_and_sum
from support.torch_scripts import needs_torch

pytestmark = [needs_prlimit, needs_torch, pytest.mark.slow]

RUN = "AI.MODELEXECUTE m INPUTS 2 a a OUTPUTS 2 y z"
REFUSED = b"-ERR no thread can be started for the run: the system allows no more threads or memory; try again later\r\n"


@pytest.mark.parametrize(("backend", "told"), [("TORCH", REFUSED), ("ONNX", OK)])  # ONNX: in the event loop
def test_a_run_without_a_thread_is_answered(
    backend: str, told: bytes, new_engine: Callable[..., Server], connect: Connect
) -> None:
    engine = new_engine()
    wire, other = connect(engine), connect(engine)
    wire.socket.settimeout(60)  # a framework is imported
    assert wire.ask("AI.TENSORSET a FLOAT 1 2 VALUES 1 2") == OK
    assert wire.ask("AI.MODELSTORE", "m", backend, "CPU", "BLOB", product_and_sum(backend).blob) == OK

    with no_threads(engine):
        first = [wire.ask(RUN), other.ask(RUN), wire.ask(RUN)]

    assert first == [told] * 3
    assert wire.ask(RUN) == other.ask(RUN) == OK
    assert "bug in the engine" not in engine.complaints()
