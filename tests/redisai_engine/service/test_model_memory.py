"""`--model-memory` bounds what is measured: the memory of the engine and its hosts, not the bytes of blobs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from faults import memory
from support.connection import Connection, connected
from support.replies import OK
from support.servers import Server, start_engine
from support.tiny_models import onnx_with_weights, torch_with_weights
from support.torch_scripts import needs_torch
from support.waiting import wait_until

pytestmark = pytest.mark.slow

MODELS, CLIENTS = 8, 4
BLOB_BYTES = 8 * 2**20
BOUND = 128  # MiB; one of these models takes up to 70 in a process, and there may be one for each client
#: Of the bound: what runs and connections take, and what hosts may grow until they are looked at again.
TOLERATED = 1.25
KEPT = 64  # MiB of freed memory, blobs among it, that the engine keeps for the next request (`process/memory.py`)


def stored(wire: Connection, kind: str, name: str, seed: int) -> None:
    backend = "TORCH" if kind == "TORCH" else "ONNX"
    blob = torch_with_weights(BLOB_BYTES) if kind == "TORCH" else onnx_with_weights(BLOB_BYTES, seed)
    options = ("ISOLATE",) if kind == "isolated ONNX" else ()
    assert wire.ask("AI.MODELSTORE", name, backend, "CPU", *options, "BLOB", blob) == OK


def run(engine: Server, name: str) -> None:
    sets = "|> AI.TENSORSET x FLOAT 1 VALUES 2"
    with connected(engine) as wire:
        wire.socket.settimeout(60)
        for _ in range(5):
            told = wire.ask(f"AI.DAGEXECUTE_RO ROUTING {name} {sets} |> AI.MODELEXECUTE {name} INPUTS 1 x OUTPUTS 1 y")
            assert b"\r\n-" not in told, told


@pytest.mark.parametrize("kind", ["ONNX", "isolated ONNX", pytest.param("TORCH", marks=needs_torch)])
def test_the_memory_of_all_models_stays_below_the_bound(kind: str, tmp_path: Path) -> None:
    engine = start_engine(tmp_path, "--model-memory", str(BOUND * 2**20), "--threads-per-queue", str(CLIENTS))
    try:
        with connected(engine) as wire:
            wire.socket.settimeout(60)
            stored(wire, kind, "first", 0)
            run(engine, "first")
            assert wire.ask("AI.MODELDEL first") == OK
            before = memory.of_engine(engine.process.pid)  # with the framework
            for number in range(MODELS):
                stored(wire, kind, f"m{number}", number)
                clients = [threading.Thread(target=run, args=(engine, f"m{number}")) for _ in range(CLIENTS)]
                for client in clients:
                    client.start()
                for client in clients:
                    client.join()
        most = BOUND * TOLERATED + KEPT
        wait_until(lambda: memory.of_engine(engine.process.pid) - before < most, what="models that leave")
        run(engine, "m0")  # one that has left is loaded again
    finally:
        engine.stop()
