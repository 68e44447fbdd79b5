"""
What a worker costs a Python model: one row by a parcel, beside `pyfunc.predict` in a process that has the model.

Also 50 connections beside other servers of the same model with as many workers, how long the first and a further worker
take to start, and what one worker takes in memory, and ten deployments.
"""

from __future__ import annotations

import io
import json
import socket
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import redis

from bench import load, python_rivals, servers
from bench.rounds import Figures, Plan, Series
from bench.wire import Exchange, redis_exchange
from redisai_engine.execution.hosts.python.exact import ExactFrames
from redisai_engine.protocol import parcels

IN_PROCESS = "pyfunc.predict in process"
SPARED = "pyfunc.predict in process, without its work on the schema"
ONE = "PYFUNC, one connection"
SOCKET = "PYFUNC, one connection, plain socket"
MANY = f"PYFUNC, {python_rivals.CONNECTIONS} connections"
DEPLOYMENTS = 10
_WARM_UP = 20  # predictions before the clock starts


def run(plan: Plan) -> Series:
    folder, row = _saved(plan.folder / "model")
    parcel = parcels.pack(row)
    arguments = (plan.folder / "engine", "--python-models")
    with servers.engine(*arguments) as engine, redis.Redis(port=engine.port, socket_timeout=600) as client:
        resources = _resources(client, engine.pid, _archive(folder), parcel)
        _store(client, "many", _archive(folder, replicas=python_rivals.WORKERS))
        predict, spared, expected = _in_process(folder, row)
        many = redis_exchange(_words("many", parcel))
        subjects: dict[str, Callable[[], Figures]] = {
            IN_PROCESS: lambda: _timed(predict, plan.seconds),
            SPARED: lambda: _timed(spared, plan.seconds),
            ONE: lambda: _timed(partial(client.execute_command, *_words("model0", parcel)), plan.seconds),
            SOCKET: lambda: _by_socket(engine.port, redis_exchange(_words("model0", parcel)), plan.seconds),
            MANY: lambda: python_rivals.loaded(engine, many, plan.seconds),
            **python_rivals.subjects(plan, python_rivals.Example(folder, row, expected)),
        }
        series = plan.in_turns(subjects)
    series["start and memory"] = [resources]
    return series


def _resources(client: redis.Redis, engine: int, blob: bytes, parcel: bytes) -> Figures:
    """Return what starts take, and workers in memory."""
    found: Figures = {}
    for number in range(DEPLOYMENTS):
        started = time.monotonic()
        _store(client, f"model{number}", blob)
        took = round(time.monotonic() - started, 3)
        for _ in range(_WARM_UP):
            client.execute_command(*_words(f"model{number}", parcel))
        if number == 0:
            found |= {"start_s": took, "one_mb": _workers_mb(engine)}
        if number == 1:
            found["next_s"] = took
    return {**found, "ten_mb": _workers_mb(engine)}


def _saved(folder: Path) -> tuple[Path, Any]:
    """Save a small scikit-learn model, and return its folder and one row."""
    import mlflow
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    rows = pd.DataFrame(np.random.default_rng(1).normal(size=(100, 4)), columns=list("abcd"))
    model = LinearRegression().fit(rows, rows.sum(axis=1))
    signature = mlflow.models.infer_signature(rows, model.predict(rows))  # MLServer fails without that of the answer
    mlflow.sklearn.save_model(model, folder, signature=signature, pip_requirements=[])
    return folder, rows[:1]


def _archive(folder: Path, **about: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("redisai.json", json.dumps({"format": 1, **about}))
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"model/{path.relative_to(folder)}")
    return packed.getvalue()


def _store(client: redis.Redis, name: str, blob: bytes) -> None:
    client.execute_command("AI.MODELSTORE", name, "PYFUNC", "CPU", "BLOB", blob)


def _in_process(folder: Path, row: Any) -> tuple[Callable[[], Any], Callable[[], Any], Any]:
    """Return what predicts a row, what does so as a worker does, and the answer."""
    import mlflow

    model = mlflow.pyfunc.load_model(str(folder))
    exact = ExactFrames(model)
    frame = exact.frame(np.frombuffer(parcels.pack(row), "u1"))
    return lambda: model.predict(row), lambda: exact.predict(frame), model.predict(row)


def _words(key: str, parcel: bytes) -> tuple[Any, ...]:
    words = ("AI.DAGEXECUTE_RO", "ROUTING", key, "|>", "AI.TENSORSET", "x", "UINT8", len(parcel), "BLOB", parcel)
    run = ("|>", "AI.MODELEXECUTE", key, "INPUTS", 1, "x", "OUTPUTS", 1, "y", "|>", "AI.TENSORGET", "y", "BLOB")
    return (*words, *run)


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


def _by_socket(port: int, exchange: Exchange, seconds: float) -> Figures:
    """Measure one connection whose client does nothing but send and receive."""
    length = len(load.first_reply(port, exchange))
    buffer = memoryview(bytearray(length))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def predict() -> None:
            connection.sendall(exchange.request)
            got = 0
            while got < length:
                got += connection.recv_into(buffer[got:])

        return _timed(predict, seconds)


def _workers_mb(engine: int) -> float:
    """Return the proportional set size of workers, guards and what they are forked from, in megabytes (10**6 bytes)."""
    found = 0
    for number in servers.descendants(engine):
        if b"python/program.py" in Path(f"/proc/{number}/cmdline").read_bytes():
            lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
            found += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return round(found * 1024 / 1e6, 1)
