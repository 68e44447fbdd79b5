"""
What an engine costs before anybody asks anything: time to be ready, memory, memory a model, time to deploy one.

Every round starts an engine anew on a data folder that holds the tiny model already.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import redis

from bench import models, servers
from bench.models import Model
from bench.rounds import Figures, Plan, Series
from bench.servers import Running
from bench.storing import check, deploy, deploy_time

MODELS = 10
MEGABYTES = 5
BIG_MEGABYTES = 500


def run(plan: Plan) -> Series:
    prepared = plan.folder / "prepared"
    with servers.engine(prepared) as engine:
        deploy(engine.port, models.tiny())
    several = [models.heavy(MEGABYTES, number) for number in range(MODELS)]
    big = models.heavy(BIG_MEGABYTES, MODELS)
    on_fresh = partial(_on_fresh, plan.folder, prepared)
    series = plan.in_turns(
        {
            "start": partial(on_fresh, _idle),
            f"memory for each of {MODELS} models of {MEGABYTES} MB": partial(on_fresh, partial(_each, several)),
            f"deploy {MEGABYTES} MB": partial(on_fresh, partial(_deploy, several[0])),
        }
    )
    # Takes long, so once must do.
    return series | plan.in_turns({f"deploy {BIG_MEGABYTES} MB": partial(on_fresh, partial(_deploy, big))}, rounds=1)


def _on_fresh(folder: Path, prepared: Path, measure: Callable[[Running], Figures]) -> Figures:
    """Measures on an engine that has just started on a copy of the prepared data."""
    fresh = folder / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(prepared, fresh)
    with servers.engine(fresh) as engine:
        return measure(engine)


def _deploy(model: Model, engine: Running) -> Figures:
    check(engine.port, models.tiny())  # ONNX Runtime itself is loaded by then
    return {"seconds": round(deploy_time(engine.port, model), 4)}


def _idle(engine: Running) -> Figures:
    """After its first prediction; later memory is that of what clients send."""
    check(engine.port, models.tiny())
    return {"ready_s": engine.start_s, **_memory(engine)}


def _memory(engine: Running) -> Figures:
    by_process = servers.resident_mb(engine.pid)
    ours = sum(megabytes for name, megabytes in by_process.items() if "redis-server" not in name)
    return {"engine_mb": round(ours, 1), "with_redis_mb": round(sum(by_process.values()), 1)}


def _each(several: list[Model], engine: Running) -> Figures:
    """What each of some models adds, loaded and asked once."""
    check(engine.port, models.tiny())
    before = _memory(engine)
    for model in several:
        deploy_time(engine.port, model)
    # Redis frees what the store command took a moment later.
    with redis.Redis(port=engine.port) as client:
        client.ping()
    after = _memory(engine)
    return {name: round((after[name] - before[name]) / len(several), 2) for name in after}
