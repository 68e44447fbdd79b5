"""
What the engine in front of Redis costs plain commands: GET and SET sent to Redis directly, and through the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench import servers
from bench.drive import Argument, drive
from bench.rounds import Figures, Plan, Series

COMMANDS: dict[str, list[Argument]] = {"GET": ["GET", "bench:key"], "SET": ["SET", "bench:key", "value"]}
SHAPES = {
    "50 connections": (50, 1),
    "50 connections, pipelined 16": (50, 16),
    "1 connection, pipelined 16": (1, 16),
}


def run(plan: Plan) -> Series:
    with servers.plain_redis(plan.folder) as redis, servers.engine(plan.folder, redis=plan.folder) as engine:
        drive(redis.port, ["SET", "bench:key", "value"], 1, 0.1)
        subjects: dict[str, Callable[[], Figures]] = {}
        for name, (connections, pipeline) in SHAPES.items():
            for command, words in COMMANDS.items():
                for side, port in (("Redis", redis.port), ("engine", engine.port)):
                    subjects[f"{side} {command}, {name}"] = partial(
                        drive, port, words, connections, plan.seconds, pipeline=pipeline
                    )
        return plan.in_turns(subjects)
