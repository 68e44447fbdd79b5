"""
What workers cost each other: several on one processor, beside one on it, while all else has processors of its own.

The engine is pinned to one processor, generator and Redis to the others. If workers had to wait for each other or did
work twice, several on one processor would make fewer predictions than one. Where the machine has processors to spare,
as many workers on as many processors are measured as well, each with a generator on a processor of its own, and Redis
on one more; on two processors, that is one worker.

On paper, n workers on n processors make n times what one makes, times what several on one processor make of it. The
terms are measured: `engine_us`, `redis_us` and `generator_us` are processor time for each prediction. Redis has one
processor, so beyond engine_us / redis_us workers it is the limit, and each generator feeds engine_us / generator_us.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import models, servers
from bench.drive import Argument, drive
from bench.rounds import Figures, Plan, Series
from bench.servers import Running
from bench.storing import deploy

CONNECTIONS = 50  # for each worker
ONE = "1 worker, one processor"
ON_ONE = (1, 2, 4)
ON_AS_MANY = {2: "two", 4: "four", 6: "six"}
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def run(plan: Plan) -> Series:
    processors = processors_by_core()
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
            others = [processor for processor in processors if processor not in of_engine]
            load = Load(tiny.dag(), CONNECTIONS * workers, plan.seconds, _generators(others, len(of_engine)))
            subjects[name] = partial(_driven, engine, redis, load)
        return plan.in_turns(subjects)


def processors_by_core() -> list[int]:
    """Return the processors that may be used. Those that share a core with an earlier one come last."""
    cores: dict[str, list[int]] = {}
    for processor in sorted(os.sched_getaffinity(0)):
        siblings = Path(_SIBLINGS.format(processor))
        cores.setdefault(siblings.read_text() if siblings.exists() else str(processor), []).append(processor)
    ranked = [(place, processor) for core in cores.values() for place, processor in enumerate(core)]
    return [processor for _, processor in sorted(ranked)]


def subject(workers: int, processors: int) -> str:
    where = f"{ON_AS_MANY[processors]} processors" if processors > 1 else "one processor"
    return f"{workers} worker{'s' if workers > 1 else ''}, {where}"


def _layouts(processors: list[int]) -> Iterator[tuple[int, set[int]]]:
    """Yield numbers of workers, and the processors that these have. At least one is left to all else."""
    for workers in ON_ONE:
        yield workers, set(processors[:1])
    for workers in ON_AS_MANY:
        if 2 * workers < len(processors):
            yield workers, set(processors[:workers])


def _generators(others: list[int], count: int) -> list[set[int]]:
    """Return the processors of each generator. The last of the others is Redis's, unless it is the only one."""
    free = others[:-1] or others
    return [set(free)] if count == 1 else [{processor} for processor in free[:count]]


@dataclass(frozen=True)
class Load:
    """What is asked, over how many connections, for how long, by generators on which processors."""

    command: list[Argument]
    connections: int
    seconds: float
    generators: list[set[int]]


def _driven(engine: Running, redis: Running, load: Load) -> Figures:
    drive(engine.port, load.command, load.connections, 0.2)  # so that every worker has loaded the model
    before, started = _used(engine, redis), time.perf_counter()
    with ProcessPoolExecutor(len(load.generators)) as pool:
        found = _together(list(pool.map(partial(_generate, engine.port, load), load.generators)))
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


def _generate(port: int, load: Load, processors: set[int]) -> Figures:
    """Make one generator's part of the load, in a process of its own."""
    os.sched_setaffinity(0, processors)
    return drive(port, load.command, load.connections // len(load.generators), load.seconds)


def _together(parts: list[Figures]) -> Figures:
    """Return the figures of all generators: sums, and medians of what each client saw."""
    sums = ("connections", "requests", "per_second", "generator_cores")
    return {name: (sum if name in sums else statistics.median)([part[name] for part in parts]) for name in parts[0]}
