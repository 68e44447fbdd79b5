"""Faults of models and scripts."""

from __future__ import annotations

import psutil

from faults.fault import Fault
from faults.processes import Processes, embedded
from support.connection import connected
from support.tiny_models import onnx_counter, product_and_sum
from support.waiting import wait_until

_ENDLESS = """def f(tensors: List[Tensor], keys: List[str], args: List[str]):
    x = torch.ones(1)
    while bool(x.sum() > 0):
        x = x + 1
    return x
"""


def model_process_is_killed(there: Processes) -> None:
    _store_torch(there)
    host = there.hosts()[0]
    host.kill()
    wait_until(lambda: not host.is_running() or host.status() == psutil.STATUS_ZOMBIE, what="the host's end")
    _run_torch(there)


def script_never_ends(there: Processes) -> None:
    stored = there.ask("AI.SCRIPTSTORE", "faults:s", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", _ENDLESS)
    assert stored == b"+OK\r\n", stored
    with connected(there.engine) as wire:
        wire.socket.settimeout(60)
        reply = wire.ask("AI.SCRIPTEXECUTE faults:s f KEYS 1 faults:s OUTPUTS 1 faults:y")
        assert reply[:1] == b"-", reply


def run_takes_too_long(there: Processes) -> None:
    there.ask("AI.MODELSTORE", "faults:long", "ONNX", "CPU", "BLOB", onnx_counter())
    with connected(there.engine) as wire:
        wire.socket.settimeout(60)
        sets = "|> AI.TENSORSET n INT64 1 VALUES 1000000000000"
        run = "|> AI.MODELEXECUTE faults:long INPUTS 1 n OUTPUTS 1 y |> AI.TENSORGET y BLOB"
        assert b"-" in wire.ask(f"AI.DAGEXECUTE_RO ROUTING faults:long {sets} {run}")


def blob_is_damaged(there: Processes) -> None:
    blob = onnx_counter()
    for end in range(1, len(blob), max(1, len(blob) // 50)):
        there.ask("AI.MODELSTORE", "faults:damaged", "ONNX", "CPU", "BLOB", blob[:end])


def _store_torch(there: Processes) -> None:
    model = product_and_sum("TORCH")
    assert there.ask("AI.MODELSTORE", "faults:torch", "TORCH", "CPU", "BLOB", model.blob) == b"+OK\r\n"
    _run_torch(there)


def _run_torch(there: Processes) -> None:
    sets = "|> AI.TENSORSET a FLOAT 1 VALUES 2 |> AI.TENSORSET b FLOAT 1 VALUES 3"
    run = "|> AI.MODELEXECUTE faults:torch INPUTS 2 a b OUTPUTS 2 y z |> AI.TENSORGET y VALUES"
    wait_until(lambda: b"\r\n-" not in there.ask(f"AI.DAGEXECUTE_RO ROUTING faults:torch {sets} {run}"), what="a run")


FAULTS = [
    Fault("A model's process is killed", "model-killed", embedded, model_process_is_killed, "", is_short=True),
    Fault(
        "A script never ends",
        "script-hangs",
        embedded,
        script_never_ends,
        "",
        ("--model-execution-timeout", "1000"),
    ),
    Fault(
        "A run of an ONNX model never ends",
        "run-hangs",
        embedded,
        run_takes_too_long,
        "",
        ("--model-execution-timeout", "1000"),
    ),
    Fault("Fifty damaged models are stored", "damaged-models", embedded, blob_is_damaged, ""),
]
