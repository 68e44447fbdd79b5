"""
One and two workers, and who uses the processor meanwhile.

On two cores the load generator takes a share of its own, the larger the shorter the runs: with the tiny model and one
row of the middle one two workers can't be twice one, with 16 rows of the trees they can. `server_cores` and
`generator_cores` in the results tell which was the limit, `wanted_cores` what the target would take.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from bench import models, servers
from bench.drive import Argument, drive
from bench.models import Model
from bench.rounds import Figures, Plan, Series
from bench.servers import Running
from bench.storing import deploy

CONNECTIONS = 50
TARGET = 1.7  # two workers beside one


def run(plan: Plan) -> Series:
    plain = plan.folder
    with (
        servers.plain_redis(plain),
        servers.engine(plan.folder / "one", redis=plain) as one,
        servers.engine(plan.folder / "two", "--workers", "2", redis=plain) as two,
    ):
        subjects: dict[str, Callable[[], Figures]] = {}
        for model, rows in ((models.tiny(), 1), (models.middle(), 1), (models.trees(), 16)):
            deploy(one.port, model)
            for name, engine in (("1 worker", one), ("2 workers", two)):
                subjects[f"{subject(model, rows)}, {name}"] = partial(_driven, engine, model.dag(rows), plan.seconds)
        return plan.in_turns(subjects)


def subject(model: Model, rows: int) -> str:
    return f"{model.name}, {rows} row{'s' if rows > 1 else ''}"


def _driven(engine: Running, command: list[Argument], seconds: float) -> Figures:
    # Short, so that every worker has loaded the model.
    drive(engine.port, command, CONNECTIONS, 0.2)
    used, before = servers.processor_seconds(engine.pid), time.perf_counter()
    found = drive(engine.port, command, CONNECTIONS, seconds)
    used = (servers.processor_seconds(engine.pid) - used) / (time.perf_counter() - before)
    wanted = TARGET * (used + found["generator_cores"])  # of one worker: what so many times its rate would take
    return {**found, "server_cores": round(used, 3), "wanted_cores": round(wanted, 3)}
