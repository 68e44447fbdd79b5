"""
What a worker costs a Python model: one row by a parcel, beside `pyfunc.predict` in a process that has the model.

Also how long the first worker takes to start, what one takes in memory, and what ten deployments take.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import redis

from bench import servers
from bench.rounds import Figures, Plan, Series
from redisai_engine.protocol import parcels

DEPLOYMENTS = 10
_WARM_UP = 20  # predictions before the clock starts


def run(plan: Plan) -> Series:
    folder, row = _saved(plan.folder / "model")
    blob = _archive(folder)
    arguments = (plan.folder / "engine", "--python-models")
    with servers.engine(*arguments) as engine, redis.Redis(port=engine.port, socket_timeout=600) as client:
        started = time.monotonic()
        _store(client, "model0", blob)
        start = time.monotonic() - started
        subjects = {
            "pyfunc.predict in process": _in_process(folder, row, plan.seconds),
            "PYFUNC, one connection": partial(_served, client, parcels.pack(row), plan.seconds),
        }
        series = plan.in_turns(subjects)
        one = _workers_mb(engine.pid)
        for number in range(1, DEPLOYMENTS):
            _store(client, f"model{number}", blob)
        series["start and memory"] = [{"start_s": round(start, 2), "one_mb": one, "ten_mb": _workers_mb(engine.pid)}]
    return series


def _saved(folder: Path) -> tuple[Path, Any]:
    """Save a small scikit-learn model, and return its folder and one row."""
    import mlflow
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    rows = pd.DataFrame(np.random.default_rng(1).normal(size=(100, 4)), columns=list("abcd"))
    model = LinearRegression().fit(rows, rows.sum(axis=1))
    signature = mlflow.models.infer_signature(rows)
    mlflow.sklearn.save_model(model, folder, signature=signature, pip_requirements=[])
    return folder, rows[:1]


def _archive(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"model/{path.relative_to(folder)}")
    return packed.getvalue()


def _store(client: redis.Redis, name: str, blob: bytes) -> None:
    client.execute_command("AI.MODELSTORE", name, "PYFUNC", "CPU", "BLOB", blob)


def _in_process(folder: Path, row: Any, seconds: float) -> Callable[[], Figures]:
    import mlflow

    model = mlflow.pyfunc.load_model(str(folder))
    return lambda: _timed(lambda: model.predict(row), seconds)


def _served(client: redis.Redis, parcel: bytes, seconds: float) -> Figures:
    words = ("AI.DAGEXECUTE_RO", "ROUTING", "model0", "|>", "AI.TENSORSET", "x", "UINT8", len(parcel), "BLOB", parcel)
    words = (*words, "|>", "AI.MODELEXECUTE", "model0", "INPUTS", 1, "x", "OUTPUTS", 1, "y", "|>")
    words = (*words, "AI.TENSORGET", "y", "BLOB")
    return _timed(lambda: client.execute_command(*words), seconds)


def _timed(predict: Callable[[], Any], seconds: float) -> Figures:
    for _ in range(_WARM_UP):
        predict()
    took = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begin = time.perf_counter()
        predict()
        took.append(time.perf_counter() - begin)
    took.sort()
    return {"median_us": round(took[len(took) // 2] * 1e6, 1), "p10_us": round(took[len(took) // 10] * 1e6, 1)}


def _workers_mb(engine: int) -> float:
    """Return the proportional set size of workers and their guards, in megabytes (10**6 bytes)."""
    found = 0
    for number in servers.descendants(engine):
        if b"python/program.py" in Path(f"/proc/{number}/cmdline").read_bytes():
            lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
            found += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return round(found * 1024 / 1e6, 1)
