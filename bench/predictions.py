"""
One small model over one connection and over many, compared with its limits: PING, and ONNX Runtime in a loop.

The same prediction is also made with three commands (TENSORSET, MODELEXECUTE, TENSORGET), with tensors kept as keys in
Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench import bare, load, models, servers
from bench.drive import Argument, drive
from bench.rounds import Figures, Plan, Series
from bench.storing import deploy
from bench.wire import redis_exchange

LOOP = "ONNX Runtime loop, no server"
CONNECTIONS = {"1 connection": 1, "8 connections": 8, "50 connections": 50}
PIPELINED = {"50 connections, pipelined 16": 50, "1 connection, pipelined 16": 1}


def run(plan: Plan) -> Series:
    tiny = models.tiny()
    with servers.plain_redis(plan.folder) as redis, servers.engine(plan.folder, redis=plan.folder) as engine:
        deploy(engine.port, tiny)
        sides: dict[str, tuple[int, list[Argument]]] = {
            "Redis PING": (redis.port, ["PING"]),
            "engine PING": (engine.port, ["PING"]),
            "engine DAG": (engine.port, tiny.dag()),
        }
        subjects: dict[str, Callable[[], Figures]] = {LOOP: lambda: bare.loop(tiny, plan.seconds)}
        for name, connections in CONNECTIONS.items():
            for side in sides if connections != 8 else ("engine DAG",):
                port, command = sides[side]
                subjects[f"{side}, {name}"] = partial(drive, port, command, connections, plan.seconds)
        for name, connections in PIPELINED.items():
            port, command = sides["engine DAG"]
            subjects[f"engine DAG, {name}"] = partial(drive, port, command, connections, plan.seconds, pipeline=16)
        subjects["engine DAG, one after another"] = lambda: _sequence(engine.port, [tiny.dag()], plan.seconds)
        subjects["engine, three commands"] = lambda: _sequence(engine.port, tiny.three_commands(), plan.seconds)
        return plan.in_turns(subjects)


def _sequence(port: int, commands: list[list[Argument]], seconds: float) -> Figures:
    found = load.in_sequence(port, [redis_exchange(command) for command in commands], seconds)
    return {"per_second": found.per_second, "median_ms": found.median_ms, "p99_ms": found.p99_ms}
