"""
What RedisAI's own clients send, from redis-py: three commands one after another, beside the same prediction as a DAG.

redisai-py, JRedisAI and SmartRedis set a tensor, run the model and read the answer, and wait for each. Three PINGs show
what waiting three times takes in redis-py and in the engine's front, which answers them itself. One engine is one
process, as in the other scenarios; a second one has as many workers as the command starts by default.

A program in C that does nothing but wait (`waiting.py`) shows what is left if an engine took no time at all. Redis gets
the same two writes from it as from the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from bench import models, servers
from bench.drive import Argument
from bench.plugin import repeat
from bench.rounds import Figures, Plan, Series
from bench.storing import blob_of, deploy
from bench.waiting import Canned, reply_to, waiting
from redisai_engine.commands.tensor_script import DIGEST
from redisai_engine.protocol import replies

DAG = "redis-py, DAG"
THREE = "redis-py, three commands"
THREE_BY_DEFAULT = "redis-py, three commands, workers as by default"
PINGS = "redis-py, three PINGs"
WAITING_DAG = "redis-py, DAG, a program that only waits"
WAITING_THREE = "redis-py, three commands, a program that only waits"


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
            for each in (client, other):
                if blob_of([_last_answer(each, three)]) != blob_of(_last_answer(each, dag)):
                    raise ValueError("three commands answer otherwise than the DAG")
            canned = _canned(engine.port, plain, dag[0], three)

            def only_waiting(commands: list[list[Argument]]) -> Figures:
                with waiting(plan.folder / "waiting", plain, canned) as program, _connected(program.port) as waits:
                    return repeat(lambda: _last_answer(waits, commands), plan.seconds)

            return plan.in_turns(
                {
                    DAG: lambda: repeat(lambda: _last_answer(client, dag), plan.seconds),
                    THREE: lambda: repeat(lambda: _last_answer(client, three), plan.seconds),
                    THREE_BY_DEFAULT: lambda: repeat(lambda: _last_answer(other, three), plan.seconds),
                    PINGS: lambda: repeat(lambda: _last_answer(client, [["PING"]] * 3), plan.seconds),
                    WAITING_DAG: lambda: only_waiting(dag),
                    WAITING_THREE: lambda: only_waiting(three),
                }
            )


def _canned(port: int, plain: Path, dag: list[Argument], three: list[list[Argument]]) -> dict[str, Canned]:
    """Return the engine's answers, and what it sends to Redis, after it has carried out the three commands."""
    with redis.Redis(unix_socket_path=str(plain / servers.SOCKET)) as own:
        stored = {key: own.get(key) for key in (b"in", b"out")}
    writes = {key: replies.command(b"EVALSHA", DIGEST, b"1", key, value, b"READ") for key, value in stored.items()}
    return {
        "AI.DAGEXECUTE": Canned(reply_to(port, dag)),
        "AI.TENSORSET": Canned(replies.OK, writes[b"in"]),
        "AI.MODELEXECUTE": Canned(replies.OK, writes[b"out"]),
        "AI.TENSORGET": Canned(reply_to(port, three[2])),
    }


@contextmanager
def _connected(port: int) -> Iterator[redis.Redis]:
    """Connect with RESP2, so that there is no HELLO to answer."""
    with redis.Redis(port=port, protocol=2) as client:
        yield client


def _last_answer(client: redis.Redis, commands: list[list[Argument]]) -> Any:
    """Send commands one after another, and return the last one's answer."""
    for command in commands:
        answer = client.execute_command(*command)
    return answer
