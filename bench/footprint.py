"""
What an engine costs before any request: time to start, memory, memory per model, and time to deploy a model.

Every round starts a new engine on a data folder that already contains the tiny model.
"""

from __future__ import annotations

import shutil
import time
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

_LOOK_S = 0.1


def run(plan: Plan) -> Series:
    prepared = plan.folder / "prepared"
    with servers.engine(prepared) as engine:
        deploy(engine.port, models.tiny())
    several = [models.heavy(MEGABYTES, number) for number in range(MODELS)]
    big = models.heavy(BIG_MEGABYTES, MODELS)
    on_fresh = partial(_on_fresh, plan.folder, prepared)
    on_restless = partial(_on_fresh, plan.folder, prepared, arguments=("--host-idle", "1"))
    series = plan.in_turns(
        {
            "start": partial(on_fresh, _first),
            "idle": partial(on_restless, _idle),
            f"memory for each of {MODELS} models of {MEGABYTES} MB": partial(on_fresh, partial(_each, several)),
            f"deploy {MEGABYTES} MB": partial(on_fresh, partial(_deploy, several[0])),
        }
    )
    # Slow, so it is measured in fewer rounds.
    return series | plan.in_turns({f"deploy {BIG_MEGABYTES} MB": partial(on_fresh, partial(_deploy, big))}, rounds=3)


def _on_fresh(
    folder: Path, prepared: Path, measure: Callable[[Running], Figures], arguments: tuple[str, ...] = ()
) -> Figures:
    """Measure an engine that has just started on a copy of the prepared data."""
    fresh = folder / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(prepared, fresh)
    with servers.engine(fresh, *arguments) as engine:
        return measure(engine)


def _deploy(model: Model, engine: Running) -> Figures:
    check(engine.port, models.tiny())  # loads ONNX Runtime itself
    return {"seconds": round(deploy_time(engine.port, model), 4)}


def _first(engine: Running) -> Figures:
    """Measure after its first prediction. Later memory depends on what clients send."""
    check(engine.port, models.tiny())
    return {"ready_s": engine.start_s, **_memory(engine)}


def _idle(engine: Running) -> Figures:
    """Measure when the process is gone that the model was tried out with."""
    check(engine.port, models.tiny())
    while len(_ours(engine)) > 1:
        time.sleep(_LOOK_S)
    return {"ready_s": engine.start_s, **_memory(engine)}


def _ours(engine: Running) -> list[float]:
    """Return the memory of each of the engine's processes."""
    return [megabytes for name, megabytes in servers.resident_mb(engine.pid).items() if "redis-server" not in name]


def _memory(engine: Running) -> Figures:
    everything = sum(servers.resident_mb(engine.pid).values())
    return {"engine_mb": round(sum(_ours(engine)), 1), "with_redis_mb": round(everything, 1)}


def _each(several: list[Model], engine: Running) -> Figures:
    """Return what each of several models adds, once it is loaded and has run."""
    check(engine.port, models.tiny())
    before = _memory(engine)
    for model in several:
        deploy_time(engine.port, model)
    # Redis frees the memory of the store command a moment later.
    with redis.Redis(port=engine.port) as client:
        client.ping()
    after = _memory(engine)
    return {name: round((after[name] - before[name]) / len(several), 2) for name in after}
