"""Other models and more rows per request, over 8 connections: how much of ONNX Runtime's own rate the engine keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench import bare, load, models, servers
from bench.drive import Argument, drive
from bench.rounds import Figures, Plan, Series
from bench.storing import check, deploy
from bench.wire import redis_exchange

CONNECTIONS = 8
ALONE, RUN, PING = (
    "engine DAG, middle, 1 row, 1 connection",
    "ONNX Runtime loop, middle, 1 row",
    "engine PING, 1 connection",
)
ROWS = {"tiny": (1, 32, 1024), "middle": (1, 32), "trees": (1, 32, 1024), "image": (1,), "text": (1,)}


def run(plan: Plan) -> Series:
    subjects: dict[str, Callable[[], Figures]] = {}
    with servers.engine(plan.folder) as engine:
        for make in (models.tiny, models.middle, models.trees, models.image, models.text):
            model = make()
            deploy(engine.port, model)
            for rows in ROWS[model.name]:
                check(engine.port, model, rows)
                name = f"{model.name}, {rows} row{'s' * (rows > 1)}"
                subjects[f"ONNX Runtime loop, {name}"] = partial(bare.loop, model, plan.seconds, rows=rows)
                subjects[f"engine DAG, {name}"] = partial(
                    drive, engine.port, model.dag(rows), CONNECTIONS, plan.seconds
                )
        ping: list[Argument] = ["PING"]
        for name, words in ((ALONE, models.middle().dag()), (PING, ping)):
            subjects[name] = partial(_one_after_another, engine.port, words, plan.seconds)
        return plan.in_turns(subjects)


def _one_after_another(port: int, words: list[Argument], seconds: float) -> Figures:
    found = load.in_sequence(port, [redis_exchange(words)], seconds)
    return {"per_second": found.per_second, "median_ms": found.median_ms, "p99_ms": found.p99_ms}
