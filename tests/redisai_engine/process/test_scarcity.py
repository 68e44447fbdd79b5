"""The system refuses the parent what a worker takes: it tries again, and what it had already is given back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from support.connection import Connect
from support.replies import OK
from support.scarcity import few_descriptors, needs_prlimit, open_files
from support.servers import Server
from support.waiting import wait_until
from support.workers import workers_of

pytestmark = [needs_prlimit, pytest.mark.slow]


def test_a_worker_that_is_refused_descriptors_is_started_later(
    new_engine: Callable[..., Server], connect: Connect
) -> None:
    engine = new_engine("--workers", "2")
    before = len(open_files(engine.process.pid))
    with ExitStack() as limits:
        for free in range(1, 6):  # a worker takes more than that
            limits.enter_context(few_descriptors(engine, free))
            if free == 1:
                os.kill(workers_of(engine)[0], signal.SIGKILL)
            wait_until(
                lambda free=free: engine.log.read_text().count("can't be started: Too many") > free, what="a try"
            )

    wait_until(lambda: len(workers_of(engine)) == 2, what="another worker")
    wait_until(lambda: len(open_files(engine.process.pid)) == before, what="closing everything else")
    assert connect(engine).ask("AI.TENSORSET a FLOAT 1 VALUES 1") == OK
