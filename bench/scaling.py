"""
What workers cost each other: several on one processor, beside one on it, while all else has processors of its own.

The engine is pinned to one processor, generator and Redis to the others. If workers had to wait for each other or did
work twice, several on one processor would make fewer predictions than one. Where the machine has processors to spare,
as many workers on as many processors are measured as well; on two, that is one.

On paper, n workers on n processors make n times what one makes, times what several on one processor make of it. The
terms are measured: `engine_us`, `redis_us` and `generator_us` are processor time for each prediction. Redis has one
processor, so beyond engine_us / redis_us workers it is the limit, and each generator feeds engine_us / generator_us.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from bench import models, servers
from bench.drive import Argument, drive
from bench.rounds import Figures, Plan, Series
from bench.servers import Running
from bench.storing import deploy

CONNECTIONS = 50  # for each worker
ONE = "1 worker, one processor"
WORKERS = (1, 2, 4)


def run(plan: Plan) -> Series:
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        raise ValueError("generator and Redis need a processor of their own")
    tiny = models.tiny()
    subjects: dict[str, Callable[[], Figures]] = {}
    with contextlib.ExitStack() as running:
        redis = running.enter_context(servers.plain_redis(plan.folder, on=set(processors[-1:])))
        for workers, of_engine in _layouts(processors):
            name = subject(workers, len(of_engine))
            folder = plan.folder / name.replace(" ", "-").replace(",", "")
            one = servers.engine(folder, "--workers", str(workers), redis=plan.folder, on=of_engine)
            engine = running.enter_context(one)
            deploy(engine.port, tiny)
            others = set(processors) - of_engine
            load = Load(tiny.dag(), CONNECTIONS * workers, others, plan.seconds)
            subjects[name] = partial(_driven, engine, redis, load)
        return plan.in_turns(subjects)


def subject(workers: int, processors: int) -> str:
    number = {1: "one", 2: "two", 4: "four"}[processors]
    return f"{workers} worker{'s' if workers > 1 else ''}, {number} processor{'s' if processors > 1 else ''}"


def _layouts(processors: list[int]) -> Iterator[tuple[int, set[int]]]:
    """Yield numbers of workers, and the processors that these have. At least one is left to all else."""
    for workers in WORKERS:
        yield workers, set(processors[:1])
    for workers in WORKERS[1:]:
        if workers < len(processors):
            yield workers, set(processors[:workers])


@dataclass(frozen=True)
class Load:
    """What is asked, over how many connections, by a generator on which processors, for how long."""

    command: list[Argument]
    connections: int
    on: set[int]
    seconds: float


def _driven(engine: Running, redis: Running, load: Load) -> Figures:
    with _pinned(load.on):
        drive(engine.port, load.command, load.connections, 0.2)  # so that every worker has loaded the model
        before, started = _used(engine, redis), time.perf_counter()
        found = drive(engine.port, load.command, load.connections, load.seconds)
        took = time.perf_counter() - started
    # The generator's own trial, before what it measures, is as fast; so what was used is divided by the whole time.
    made = found["per_second"] * took
    engine_us, redis_us = ((now - then) / made * 1e6 for now, then in zip(_used(engine, redis), before, strict=True))
    generator_us = found["generator_cores"] / found["per_second"] * 1e6
    return {
        **found,
        "engine_us": round(engine_us, 2),
        "redis_us": round(redis_us, 2),
        "generator_us": round(generator_us, 2),
    }


def _used(engine: Running, redis: Running) -> tuple[float, float]:
    return servers.processor_seconds(engine.pid), servers.processor_seconds(redis.pid)


@contextlib.contextmanager
def _pinned(processors: set[int]) -> Iterator[None]:
    """Have this thread, and what it starts, run on these processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
