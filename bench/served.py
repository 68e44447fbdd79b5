"""
All five models behind the engine and behind `mlflow models serve`: one row per request, 1 and 50 connections.

The engine is asked as its own clients ask, with a DAG, and over HTTP with the very request that MLflow's server gets.
The larger the row, the more of the time goes into reading it as JSON.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from bench import load, models, servers
from bench.models import Model
from bench.rivals import MLFLOW, mlflow_serve
from bench.rounds import Figures, Plan, Series
from bench.storing import check, deploy
from bench.wire import Exchange, http_exchange, redis_exchange

CONNECTIONS = (1, 50)
MODELS = ("tiny", "middle", "trees", "image", "text")
DAG, HTTP = "engine, DAG", "engine, /invocations"
_MAKERS: tuple[Callable[[], Model], ...] = (models.tiny, models.middle, models.trees, models.image, models.text)

Side = tuple[int, Exchange]  # a port, and what is asked there


def run(plan: Plan) -> Series:
    http_port = servers.free_port()
    subjects: dict[str, Callable[[], Figures]] = {}
    with (
        servers.plain_redis(plan.folder),
        servers.engine(plan.folder, "--http-port", str(http_port), redis=plan.folder) as engine,
        contextlib.ExitStack() as rivals,
    ):
        for make in _MAKERS:
            model = make()
            deploy(engine.port, model)
            check(engine.port, model)
            folder = plan.folder / model.name
            folder.mkdir()
            theirs = rivals.enter_context(mlflow_serve(folder, model))
            for name, side in _sides(model, engine.port, http_port, theirs.port):
                for connections in CONNECTIONS:
                    subjects[subject(model.name, name, connections)] = partial(_loaded, side, connections, plan.seconds)
        return plan.in_turns(subjects)


def subject(model: str, side: str, connections: int) -> str:
    return f"{model}, {side}, {connections} connection{'s' * (connections > 1)}"


def _sides(model: Model, port: int, http_port: int, their_port: int) -> Iterator[tuple[str, Side]]:
    body = {"inputs": model.rows().tolist()}
    yield DAG, (port, redis_exchange(model.dag()))
    for name, where, path in ((HTTP, http_port, f"/invocations/{model.name}"), (MLFLOW, their_port, "/invocations")):
        exchange = http_exchange(path, body)
        _compare(model, json.loads(exchange.answer(load.first_reply(where, exchange))))
        yield name, (where, exchange)


def _compare(model: Model, answer: Any) -> None:
    """Raise ValueError unless a server answers as ONNX Runtime does."""
    session = model.session()
    expected = session.run(None, {session.get_inputs()[0].name: model.rows()})[0]
    found = answer["predictions"]
    got = np.asarray(next(iter(found.values())) if isinstance(found, dict) else found, float).reshape(expected.shape)
    if not np.allclose(got, expected, rtol=1e-3, atol=1e-5):
        raise ValueError(f"{model.name} answers {got.ravel()[:5]}, expected {expected.ravel()[:5]}")


def _loaded(side: Side, connections: int, seconds: float) -> Figures:
    port, exchange = side
    found = load.run(port, exchange, connections, seconds)
    return {"per_second": found.per_second, "median_ms": found.median_ms, "p99_ms": found.p99_ms}
