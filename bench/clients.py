"""
What RedisAI's own clients send, from redis-py: three commands one after another, beside the same prediction as a DAG.

redisai-py, JRedisAI and SmartRedis set a tensor, run the model and read the answer, and wait for each. Three PINGs show
what waiting three times takes in redis-py and in the engine's front, which answers them itself. One engine is one
process, as in the other scenarios; a second one has as many workers as the command starts by default.
"""

from __future__ import annotations

from typing import Any

import redis

from bench import models, servers
from bench.drive import Argument
from bench.plugin import repeat
from bench.rounds import Plan, Series
from bench.storing import blob_of, deploy

DAG = "redis-py, DAG"
THREE = "redis-py, three commands"
THREE_BY_DEFAULT = "redis-py, three commands, workers as by default"
PINGS = "redis-py, three PINGs"


def run(plan: Plan) -> Series:
    tiny = models.tiny()
    dag, three = [tiny.dag()], tiny.three_commands()
    plain = plan.folder
    with (
        servers.plain_redis(plain),
        servers.engine(plan.folder / "one", redis=plain) as engine,
        servers.engine(plan.folder / "default", "--workers", "auto", redis=plain) as default,
    ):
        deploy(engine.port, tiny)
        with redis.Redis(port=engine.port) as client, redis.Redis(port=default.port) as other:
            if blob_of([_last_answer(client, three)]) != blob_of(_last_answer(client, dag)):
                raise ValueError("three commands answer otherwise than the DAG")
            return plan.in_turns(
                {
                    DAG: lambda: repeat(lambda: _last_answer(client, dag), plan.seconds),
                    THREE: lambda: repeat(lambda: _last_answer(client, three), plan.seconds),
                    THREE_BY_DEFAULT: lambda: repeat(lambda: _last_answer(other, three), plan.seconds),
                    PINGS: lambda: repeat(lambda: _last_answer(client, [["PING"]] * 3), plan.seconds),
                }
            )


def _last_answer(client: redis.Redis, commands: list[list[Argument]]) -> Any:
    """Send commands one after another, and return the last one's answer."""
    for command in commands:
        answer = client.execute_command(*command)
    return answer
