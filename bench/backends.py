"""One model in every backend, over 8 connections: the perceptron as ONNX, and in each framework's own format."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import redis

from bench import models, natives, servers
from bench.drive import Argument, drive
from bench.rounds import Figures, Plan, Series
from bench.storing import check

CONNECTIONS = 8
ROWS = (1, 32)


def run(plan: Plan) -> Series:
    subjects: dict[str, Callable[[], Figures]] = {}
    blobs = {"ONNX": models.middle().onnx, **{name: natives.make(name, plan.folder) for name in natives.MAKERS}}
    with servers.engine(plan.folder) as engine:
        for backend, blob in blobs.items():
            model = models.middle().named(backend)
            with redis.Redis(port=engine.port, socket_timeout=120) as client:
                client.execute_command(*store(backend, backend, blob))
            for rows in ROWS:
                check(engine.port, model, rows)
                subjects[f"{backend}, {rows} row{'s' * (rows > 1)}"] = partial(
                    drive, engine.port, model.dag(rows), CONNECTIONS, plan.seconds
                )
        return plan.in_turns(subjects)


def store(name: str, backend: str, blob: bytes) -> list[Argument]:
    """Return AI.MODELSTORE. Only TF needs the names of inputs and outputs."""
    names: list[Argument] = ["INPUTS", 1, "x", "OUTPUTS", 1, "y"] if backend == "TF" else []
    return ["AI.MODELSTORE", name, backend, "CPU", *names, "BLOB", blob]
