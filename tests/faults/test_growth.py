"""
Nothing stays in memory of what has come and gone: what each client of the soak does, again and again, one by one.

`scripts/test --faults soak` has all of them at work for ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from faults import memory, soak
from support.torch_scripts import needs_torch
from support.waiting import wait_until

pytestmark = pytest.mark.slow

WARM_UP, TIMES = 5, 30
#: MiB. A model of the soak has one, so if a third of what comes and goes stayed, that would be more. The C library's
#: heap grows in steps of three or six as it fills with gaps, and then stays as it is.
GROWN = 9.5
#: A slow reader has up to 16 MiB of output. The engine keeps what was freed of it for the next request.
KEPT = 64.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[soak.Servers]:
    with soak.servers(tmp_path_factory.mktemp("growth")) as running:
        yield running


@pytest.mark.parametrize(
    "work",
    [pytest.param(work, marks=needs_torch if work is soak.changes_a_script else ()) for work in soak.CLIENTS],
    ids=lambda work: work.__name__,
)
def test_what_has_come_and_gone_takes_no_memory(servers: soak.Servers, work: soak.Work) -> None:
    with ExitStack() as running:
        client = soak.Client(servers, running)
        for number in range(WARM_UP):
            work(client, number)
        before = memory.of_engine(servers.engine.process.pid)
        for number in range(WARM_UP, WARM_UP + TIMES):
            work(client, number)

        most = KEPT if work is soak.reads_slowly else GROWN
        # What was deleted elsewhere leaves when Redis has told the engine.
        wait_until(lambda: memory.of_engine(servers.engine.process.pid) - before < most, what="memory that is free")
