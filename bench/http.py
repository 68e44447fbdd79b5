"""
Predictions over HTTP: what a request costs the engine's processor, beside the same prediction over RESP.

The tiny model over 50 connections: V2 as JSON, and MLflow's `/invocations` with one record and with 1,000, beside
`mlflow models serve` and other servers in Python, with the same row. 600 KB through a model that returns them: V2 in
binary form, beside the DAG. And what the first prediction after a deployment takes, in the midst of another's.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import redis

from bench import load, models, servers
from bench.rivals import RIVALS, Rival, mlflow_serve, serve, usable
from bench.rounds import Figures, Plan, Series
from bench.servers import Running
from bench.storing import deploy
from bench.wire import Exchange, http_exchange, octets_exchange, redis_exchange

RESP = "RESP, DAG"
V2 = "HTTP, V2 infer as JSON"
ONE = "HTTP, /invocations, 1 record"
MANY = "HTTP, /invocations, 1,000 records"
MLFLOW_ONE = "mlflow models serve, 1 record"
MLFLOW_MANY = "mlflow models serve, 1,000 records"
RESP_BLOB = "RESP, DAG, 600 KB"
V2_BLOB = "HTTP, V2 infer in binary form, 600 KB"
FIRST = "first prediction after a deployment: V2 infer"
CONNECTIONS = 50
DEPLOYMENTS = 10  # in each turn, for the first prediction of each
BESIDE = ("KServe", "MLServer", "LitServe", "BentoML")


def run(plan: Plan) -> Series:
    tiny, identity = models.tiny(), models.identity()
    port = servers.free_port()
    with (
        servers.plain_redis(plan.folder),
        servers.engine(plan.folder, "--http-port", str(port), redis=plan.folder) as engine,
        mlflow_serve(plan.folder) as theirs,
    ):
        (plan.folder / "tiny.onnx").write_bytes(tiny.onnx)
        for model in (tiny, identity):
            deploy(engine.port, model)
        one, many = (http_exchange("/invocations", {"inputs": tiny.rows(count).tolist()}) for count in (1, 1000))
        ours_one, ours_many = (
            http_exchange("/invocations/tiny", {"inputs": tiny.rows(count).tolist()}) for count in (1, 1000)
        )
        sides: dict[str, tuple[Running, int, Exchange, int]] = {
            RESP: (engine, engine.port, redis_exchange(tiny.dag()), CONNECTIONS),
            V2: (engine, port, _infer(tiny), CONNECTIONS),
            ONE: (engine, port, ours_one, CONNECTIONS),
            MANY: (engine, port, ours_many, 4),
            MLFLOW_ONE: (theirs, theirs.port, one, CONNECTIONS),
            MLFLOW_MANY: (theirs, theirs.port, many, 4),
            RESP_BLOB: (engine, engine.port, redis_exchange(identity.dag()), 1),
            V2_BLOB: (engine, port, _binary(identity), 1),
        }
        subjects: dict[str, Callable[[], Figures]] = {
            name: partial(_loaded, *side, plan.seconds) for name, side in sides.items()
        }
        subjects[FIRST] = partial(_first, engine.port, port)
        for rival, python in usable([rival for rival in RIVALS if rival.name in BESIDE], plan):
            subjects[rival.name] = partial(_rival, plan, rival, python)
        return plan.in_turns(subjects)


def _rival(plan: Plan, rival: Rival, python: Path) -> Figures:
    with serve(rival, python, plan.folder) as (server, exchange):
        return _loaded(server, server.port, exchange, CONNECTIONS, plan.seconds)


def _first(port: int, http_port: int) -> Figures:
    """Return how long the first prediction of a new deployment takes, and the later ones, over one connection."""
    took = []
    for number in range(DEPLOYMENTS):
        model = models.tiny().named(f"first{number}")
        with redis.Redis(port=port) as client:
            client.execute_command(*model.store())
            took.append(load.first_and_later(http_port, _infer(models.tiny()), _infer(model), 50))
            client.delete(model.name)
    first, later = (statistics.median(times) for times in zip(*took, strict=True))
    return {"first_us": round(first * 1e6, 1), "later_us": round(later * 1e6, 1), "times": round(first / later, 2)}


def _infer(model: models.Model) -> Exchange:
    return http_exchange(f"/v2/models/{model.name}/infer", _document(model))


def _document(model: models.Model) -> dict[str, object]:
    rows = model.rows()
    item = {"name": _input(model), "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    return {"inputs": [item]}


def _input(model: models.Model) -> str:
    return str(model.session().get_inputs()[0].name)


def _binary(model: models.Model) -> Exchange:
    rows = model.rows()
    raw = rows.tobytes()
    item = {
        "name": _input(model),
        "shape": list(rows.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
    return octets_exchange(f"/v2/models/{model.name}/infer", head, raw)


def _loaded(server: Running, port: int, exchange: Exchange, connections: int, seconds: float) -> Figures:
    """Return the rate, and the processor time that the server spends on a request."""
    load.run(port, exchange, connections, 0.2)
    used = servers.processor_seconds(server.pid)
    found = load.run(port, exchange, connections, seconds)
    used = servers.processor_seconds(server.pid) - used
    return {
        "per_second": found.per_second,
        "median_ms": found.median_ms,
        "p99_ms": found.p99_ms,
        "processor_us": round(used / found.requests * 1e6, 2),
    }
