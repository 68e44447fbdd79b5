"""
One and two workers, and who uses the processor meanwhile.

On two cores the load generator and Redis need their share: with the tiny model two workers can't be twice one, with
the middle model nearly so. `server_cores` and `generator_cores` in the results tell which was the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from bench import models, servers
from bench.drive import drive
from bench.models import Model
from bench.rounds import Figures, Plan, Series
from bench.servers import Running
from bench.storing import deploy

CONNECTIONS = 50


def run(plan: Plan) -> Series:
    plain = plan.folder
    with (
        servers.plain_redis(plain),
        servers.engine(plan.folder / "one", redis=plain) as one,
        servers.engine(plan.folder / "two", "--workers", "2", redis=plain) as two,
    ):
        subjects: dict[str, Callable[[], Figures]] = {}
        for model in (models.tiny(), models.middle()):
            deploy(one.port, model)
            for name, engine in (("1 worker", one), ("2 workers", two)):
                subjects[f"{model.name}, {name}"] = partial(_driven, engine, model, plan.seconds)
        return plan.in_turns(subjects)


def _driven(engine: Running, model: Model, seconds: float) -> Figures:
    # Short, so that every worker has loaded the model.
    drive(engine.port, model.dag(), CONNECTIONS, 0.2)
    used, before = servers.processor_seconds(engine.pid), time.perf_counter()
    found = drive(engine.port, model.dag(), CONNECTIONS, seconds)
    used = servers.processor_seconds(engine.pid) - used
    return {**found, "server_cores": round(used / (time.perf_counter() - before), 3)}
