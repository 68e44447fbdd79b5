"""
One and two workers, and which processes use the cores.

On two cores, the load generator needs a share as well, and the shorter the runs, the larger it is. With the tiny model
and with one row of the middle model, two workers can't be twice as fast as one. With 16 rows of the trees they can.
`server_cores` and `generator_cores` in the results show which was the limit, and `wanted_cores` what the target needs.
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
TARGET = 1.7  # two workers compared with one


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
    # A short load, so that every worker has loaded the model.
    drive(engine.port, command, CONNECTIONS, 0.2)
    used, before = servers.processor_seconds(engine.pid), time.perf_counter()
    found = drive(engine.port, command, CONNECTIONS, seconds)
    used = (servers.processor_seconds(engine.pid) - used) / (time.perf_counter() - before)
    wanted = TARGET * (used + found["generator_cores"])  # for one worker: what TARGET times its rate would need
    return {**found, "server_cores": round(used, 3), "wanted_cores": round(wanted, 3)}
