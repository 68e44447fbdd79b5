"""The narrow interface between fronts and everything below, shown by a second kind of front without a client socket."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

from support.connection import Connection
from support.gateway import Pair, model_blob
from support.memory_front import MemoryFront, memory_front
from support.servers import Server
from support.waiting import until

TWO, THREE = struct.pack("<f", 2), struct.pack("<f", 3)
SUM = (
    *("AI.DAGEXECUTE_RO", "ROUTING", "front:m"),
    *("|>", "AI.TENSORSET", "a", "FLOAT", 1, "BLOB", TWO),
    *("|>", "AI.TENSORSET", "b", "FLOAT", 1, "BLOB", THREE),
    *("|>", "AI.MODELEXECUTE", "front:m", "INPUTS", 2, "a", "b", "OUTPUTS", 1, "y"),
    *("|>", "AI.TENSORGET", "y", "META", "BLOB"),
)
PERSISTING = (
    *("AI.DAGEXECUTE", "LOAD", 1, "front:a", "PERSIST", 1, "front:y"),
    *("|>", "AI.MODELEXECUTE", "front:m", "INPUTS", 2, "front:a", "front:a", "OUTPUTS", 1, "front:y"),
)
REQUESTS: list[tuple[bytes | str | int, ...]] = [
    ("AI.MODELSTORE", "front:m", "ONNX", "CPU", "TAG", "v1", "BLOB", model_blob("Add")),
    ("AI.MODELGET", "front:m", "META"),
    ("AI.TENSORSET", "front:a", "FLOAT", 1, "BLOB", TWO),
    ("AI.TENSORGET", "front:a", "META", "VALUES"),
    ("AI.TENSORGET", "front:none"),
    ("AI.TENSORGET",),
    ("AI.MODELEXECUTE", "front:m", "INPUTS", 2, "front:a", "front:a", "OUTPUTS", 1, "front:y"),
    ("AI.TENSORGET", "front:y", "VALUES"),
    PERSISTING,
    ("AI.DAGEXECUTE_RO", "ROUTING", "front:m", "|>", "AI.MODELRUN", "front:m"),
    SUM,
    ("AI.MODELDEL", "front:m"),
    SUM,
]


def on_a_memory_front(port: int, story: Callable[[MemoryFront], object]) -> None:
    async def tell() -> None:
        async with memory_front(port) as front:
            await asyncio.wait_for(story(front), 60)  # type: ignore[arg-type]

    asyncio.run(tell())


def test_a_front_without_a_socket_answers_as_the_one_of_redis_protocol(pair: Pair, wire: Connection):
    over_a_socket = [wire.ask(*request) for request in REQUESTS]
    in_memory: list[bytes] = []

    async def story(front: MemoryFront) -> None:
        in_memory.extend([await front.ask(*request) for request in REQUESTS])

    on_a_memory_front(pair.redis.port, story)

    assert in_memory == over_a_socket
    assert in_memory[10].endswith(struct.pack("<f", 5) + b"\r\n")


def test_it_may_take_the_fast_path_too(pair: Pair):
    answers: list[bytes] = []

    async def story(front: MemoryFront) -> None:
        await front.ask(*REQUESTS[0])
        while not front.fast_path_requests:  # the first ones load the model and have it tracked
            answers.append(await front.ask(*SUM))
        await front.ask("AI.MODELDEL", "front:m")

    on_a_memory_front(pair.redis.port, story)

    assert len(set(answers)) == 1
    assert answers[0].endswith(struct.pack("<f", 5) + b"\r\n")


def test_a_client_whose_redis_goes_gets_errors(new_redis: Callable[..., Server]):
    redis = new_redis()

    async def story(front: MemoryFront) -> None:
        await front.ask("AI.TENSORSET", "t", "FLOAT", 1, "BLOB", TWO)
        redis.stop()
        await until(lambda: front.client.lost)
        assert front.client.lost == b"-ERR the connection to Redis was lost\r\n"

    on_a_memory_front(redis.port, story)
