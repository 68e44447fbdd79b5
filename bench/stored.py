"""
Tensors that are stored as keys: AI.MODELEXECUTE over 50 connections, beside the same model in the DAG form.

A DAG brings its input along and takes its output away. AI.MODELEXECUTE takes its input from Redis and leaves its output
there, as RedisAI's clients ask for. And the engine's processor time for the three commands that make one prediction:
engine, Redis and client share one processor, because waking another one may cost as much as a command.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import redis

from bench import load, models, servers
from bench.batching import BATCH_SIZE, CONNECTIONS
from bench.drive import drive
from bench.models import Model
from bench.rounds import Figures, Plan, Series
from bench.servers import Running
from bench.storing import deploy
from bench.wire import redis_exchange

TINY = "tiny model"
BATCHED = f"middle model, BATCHSIZE {BATCH_SIZE}"
EXECUTE = "AI.MODELEXECUTE on stored tensors"
DAG = "DAG"
THREE = "three commands, tiny model, on one processor"

Subjects = dict[str, Callable[[], Figures]]


def subject(form: str, model: str) -> str:
    return f"{form}, {model}, {CONNECTIONS} connections"


def run(plan: Plan) -> Series:
    tiny, batched = models.tiny(), models.middle().named("batched")
    with servers.engine(plan.folder / "free") as engine, _on_one_processor(plan) as pinned:
        deploy(engine.port, tiny)
        deploy(engine.port, batched, batchsize=BATCH_SIZE)
        deploy(pinned.port, tiny)
        subjects = _both_forms(engine, TINY, tiny, plan.seconds) | _both_forms(engine, BATCHED, batched, plan.seconds)
        return plan.in_turns({**subjects, THREE: lambda: _three(pinned, tiny, plan.seconds)})


def _both_forms(engine: Running, name: str, model: Model, seconds: float) -> Subjects:
    tensor, execute, _ = model.three_commands()

    def executed() -> Figures:
        with redis.Redis(port=engine.port) as client:
            client.execute_command(*tensor)  # all models take it from the same key
        return drive(engine.port, execute, CONNECTIONS, seconds)

    return {
        subject(EXECUTE, name): executed,
        subject(DAG, name): lambda: drive(engine.port, model.dag(), CONNECTIONS, seconds),
    }


@contextlib.contextmanager
def _on_one_processor(plan: Plan) -> Iterator[Running]:
    """Start Redis and an engine that doesn't stay awake for requests to come, which would count as its work."""
    one = {_shared_processor()}
    with (
        servers.plain_redis(plan.folder, on=one),
        servers.engine(plan.folder / "pinned", "--busy-poll", "0", redis=plan.folder, on=one) as engine,
    ):
        yield engine


def _shared_processor() -> int:
    return max(os.sched_getaffinity(0))


def _three(engine: Running, model: Model, seconds: float) -> Figures:
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_shared_processor()})
    try:
        used = servers.processor_seconds(engine.pid)
        found = load.in_sequence(engine.port, [redis_exchange(words) for words in model.three_commands()], seconds)
        used = servers.processor_seconds(engine.pid) - used
    finally:
        os.sched_setaffinity(0, everywhere)
    return {
        "per_second": found.per_second,
        "median_ms": found.median_ms,
        "p99_ms": found.p99_ms,
        "processor_us": round(used / found.requests * 1e6, 2),
    }
