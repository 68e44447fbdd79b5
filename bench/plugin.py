"""
What the plugin adds in Python: a one-row frame versus the bare round trip of its DAG, and many rows versus session.run.

The rows are a frame of float64, as pandas makes them, and the plugin deploys the model. ONNX Runtime gets the very ONNX
model that the plugin stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import redis

from bench import deployed, load, models, servers
from bench.rounds import Figures, Plan, Series
from bench.wire import redis_exchange

BULK_ROWS = (100_000, 1_000_000)

Subjects = dict[str, Callable[[], Figures]]


def run(plan: Plan) -> Series:
    from mlflow.deployments import get_deploy_client

    with servers.engine(plan.folder) as engine:
        client: Any = get_deploy_client(f"redisai://127.0.0.1:{engine.port}/0")  # type: ignore[no-untyped-call]
        row = deployed.iris(client, plan.folder)
        many = _deploy_forest(client, plan.folder)
        exchange = redis_exchange(_plain_dag(engine.port, "iris", row))
        subjects: Subjects = {
            "DAG round trip, plain socket": lambda: _sequence(engine.port, exchange, plan.seconds),
            "plugin's predict, one row": lambda: repeat(lambda: client.predict("iris", row), plan.seconds),
        }
        session, threaded = (_session(engine.port, "forest", threads) for threads in (1, 0))
        bulk = [_bulk(count, many, client, session, threaded) for count in BULK_ROWS]
        _same_answers(client.predict("forest", many.head(1000)), _run(session, many.head(1000)))
        # A million rows take long, so they are measured only once.
        return plan.in_turns(subjects | bulk[0]) | plan.in_turns(bulk[1], rounds=1)


def _bulk(count: int, many: pandas.DataFrame, client: Any, session: Any, threaded: Any) -> Subjects:
    rows = many.head(count)
    return {
        f"session.run, {count:,} rows": partial(_rate, partial(_run, session), rows),
        f"session.run on all cores, {count:,} rows": partial(_rate, partial(_run, threaded), rows),
        f"plugin's predict, {count:,} rows": partial(_rate, partial(client.predict, "forest"), rows),
    }


def _deploy_forest(client: Any, folder: Path) -> pandas.DataFrame:
    """Deploy a random forest of 500 trees and return a million rows."""
    numbers = np.random.default_rng(1).normal(size=(max(BULK_ROWS), 20))
    frame = pandas.DataFrame(numbers, columns=[f"x{column}" for column in range(20)])
    deployed.deploy(client, folder, "forest", models.forest(), frame)
    return frame


def _session(port: int, name: str, threads: int) -> Any:
    """Return a session of ONNX Runtime with the model that the plugin stored."""
    with redis.Redis(port=port) as client:
        blob = client.execute_command("AI.MODELGET", name, "BLOB")
    return models.Model(name, bytes(blob), ()).session(threads)


def _plain_dag(port: int, name: str, row: pandas.DataFrame) -> list[Any]:
    """Return the command that the plugin's predict sends, without outputs that the answer doesn't need."""
    from mlflow_redisai.server import commands
    from redisai_engine.protocol.tensor import Tensor

    session = _session(port, name, 1)
    first, outputs = session.get_inputs()[0], len(session.get_outputs())
    array = row.to_numpy(np.float64 if "double" in first.type else np.float32)
    return commands.dag(name.encode(), [Tensor.from_array(array)], outputs, [0], 30_000)


def _run(session: Any, rows: pandas.DataFrame) -> Any:
    first = session.get_inputs()[0]
    array = rows.to_numpy(np.float64 if "double" in first.type else np.float32)
    return session.run(None, {first.name: array})[0]


def _same_answers(answer: Any, expected: Any) -> None:
    got = np.asarray(answer.get_predictions()).ravel()
    if not np.allclose(got, expected.ravel(), rtol=1e-4):
        raise ValueError(f"the plugin answers {got[:5]}, session.run {expected.ravel()[:5]}")


def _sequence(port: int, exchange: Any, seconds: float) -> Figures:
    found = load.in_sequence(port, [exchange], seconds)
    return {"median_ms": found.median_ms, "p99_ms": found.p99_ms}


def repeat(predict: Callable[[], Any], seconds: float) -> Figures:
    """Call it again and again for that long, and return what a call takes."""
    latencies = []
    started = now = time.perf_counter()
    while now - started < seconds:
        before = now
        predict()
        now = time.perf_counter()
        latencies.append((now - before) * 1000)
    return {
        "median_ms": round(float(np.median(latencies)), 4),
        "p99_ms": round(float(np.percentile(latencies, 99)), 4),
    }


def _rate(predict: Callable[[pandas.DataFrame], Any], rows: pandas.DataFrame) -> Figures:
    before = time.perf_counter()
    predict(rows)
    seconds = time.perf_counter() - before
    return {"seconds": round(seconds, 4), "rows_per_second": round(len(rows) / seconds, 1)}
