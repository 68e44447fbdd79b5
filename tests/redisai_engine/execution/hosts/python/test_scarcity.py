"""The system refuses a worker of a Python model a descriptor: the client is told, and nothing is left behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redisai_engine.protocol import parcels
from support.connection import Connect
from support.obedient import obedient
from support.replies import OK
from support.scarcity import few_descriptors, held, needs_prlimit
from support.servers import Server
from support.waiting import wait_until

pytestmark = [needs_prlimit, pytest.mark.slow]

MOST_FREE = 30  # descriptors: more than a worker takes, with what it is forked from
WAIT_S = 240.0  # importing MLflow may take a minute on a busy machine


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a path so short that the engine takes it for its temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def kept(server: Server) -> tuple[list[str], list[int]]:
    """Return what the server holds, apart from the folder that it keeps for all workers until its end."""
    files, processes = held(server)
    return [file for file in files if not file.endswith("/owner.lock")], processes


def test_a_worker_that_is_refused_a_descriptor_leaves_nothing(
    new_engine: Callable[..., Server], connect: Connect, temporary: Path
) -> None:
    engine = new_engine("--python-models", environment={"TMPDIR": str(temporary)})
    wire = connect(engine)
    wire.socket.settimeout(WAIT_S)
    assert wire.ask("PING") == b"+PONG\r\n"  # the connection has been accepted
    before, told = kept(engine), b""

    for free in range(MOST_FREE):
        with few_descriptors(engine, free):
            told = wire.ask("AI.MODELSTORE", "m", "PYFUNC", "CPU", "BLOB", obedient())
        if told == OK:
            break
        assert b"Too many open files" in told, told
        assert not [*temporary.glob("*/worker-*"), *temporary.glob("*/forerunner-*")]
        assert all((folder / "owner.lock").exists() for folder in temporary.glob("redisai-engine-*"))
        wait_until(lambda: kept(engine) == before, what=f"leaving nothing, with {free} free")

    assert told == OK
    parcel = parcels.pack(["say yes"])
    tensor = ("|>", "AI.TENSORSET", "x", "UINT8", len(parcel), "BLOB", parcel)
    run = ("|>", "AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    with few_descriptors(engine, 0):  # the first run without a thread takes one
        first = wire.ask("AI.DAGEXECUTE_RO", "ROUTING", "m", *tensor, *run)
    assert first == wire.ask("AI.DAGEXECUTE_RO", "ROUTING", "m", *tensor, *run) == b"*2\r\n+OK\r\n+OK\r\n"
