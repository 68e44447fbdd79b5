"""What is in memory leaves when its key holds something else, whoever has changed it, and nothing else leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from redisai_engine.execution.statistics import RunStatistics
from redisai_engine.redis.address import Address
from redisai_engine.redis.tracking import Tracking
from redisai_engine.service.cache import Cache, Held, Place
from redisai_engine.service.watch import KeyWatch
from support.connection import Connect, Connection
from support.servers import Server
from support.waiting import until

FIELD = b"id"
#: What is done to each key once its version is in memory.
CHANGES = {
    b"kept": "PING",
    b"touched": "HSET touched other field",
    b"deleted": "DEL deleted",
    b"replaced": "HSET replaced id other",
    b"renamed": "RENAME renamed elsewhere",
    b"expired": "PEXPIRE expired 1",
    b"huge": "EVAL return(redis.call('HSET','huge','id',string.rep('x',3000000))) 0",
}
STAYING = {(0, b"kept"), (0, b"touched")}


def watching(
    port: int, story: Callable[[KeyWatch, Cache[bytes]], Awaitable[None]], gone: list[Place] | None = None
) -> None:
    """Run a story with a watch that has its connection to Redis."""

    async def tell() -> None:
        loop = asyncio.get_running_loop()
        watch, cache = KeyWatch(loop), Cache[bytes](2**30)
        watch.add(FIELD, cache, gone.append if gone is not None else lambda place: None)
        watch.tracking = tracking = Tracking(Address(port=port), loop, watch.changed)
        await story(watch, cache)
        tracking.close()
        await until(lambda: not tracking.is_open)

    asyncio.run(asyncio.wait_for(tell(), 20))


def stored(direct: Connection, cache: Cache[bytes]) -> None:
    for key in CHANGES:
        direct.ask("DEL", key)
        direct.ask("HSET", key, FIELD, b"1")
        cache.keep((0, key), Held(b"1", b"", 1, RunStatistics()))


def test_changes_made_elsewhere(new_redis: Callable[..., Server], connect: Connect) -> None:
    server = new_redis()
    direct = connect(server)
    gone: list[Place] = []

    async def story(watch: KeyWatch, cache: Cache[bytes]) -> None:
        assert watch.tracking is not None
        await until(lambda: watch.tracking is not None and watch.tracking.is_open)
        for _ in range(3):
            gone.clear()
            stored(direct, cache)
            for place in list(cache):
                watch.begin(place, FIELD, cache)
            await until(lambda: b"tracking_total_keys:0" not in direct.ask("INFO stats"))
            direct.send(*CHANGES.values())
            direct.replies(len(CHANGES))
            direct.ask("TYPE expired")  # Redis tells of an expired key when it deletes it

            await until(lambda: set(cache) == STAYING)
            assert {(0, b"deleted"), (0, b"renamed"), (0, b"expired")} <= set(gone)
            assert not set(gone) & {(0, b"kept"), (0, b"touched"), (0, b"replaced")}

    watching(server.port, story, gone)


def test_changes_made_while_nothing_was_told(new_redis: Callable[..., Server], connect: Connect) -> None:
    """What is in memory when the connection opens is looked at then."""
    server = new_redis()
    direct = connect(server)

    async def story(watch: KeyWatch, cache: Cache[bytes]) -> None:
        stored(direct, cache)
        direct.send(*CHANGES.values())
        direct.replies(len(CHANGES))

        await until(lambda: set(cache) == STAYING)

    watching(server.port, story)


def test_everything_leaves_when_redis_is_emptied(new_redis: Callable[..., Server], connect: Connect) -> None:
    server = new_redis()
    direct = connect(server)

    async def story(watch: KeyWatch, cache: Cache[bytes]) -> None:
        await until(lambda: watch.tracking is not None and watch.tracking.is_open)
        stored(direct, cache)
        for place in list(cache):
            watch.begin(place, FIELD, cache)
        await until(lambda: b"tracking_total_keys:0" not in direct.ask("INFO stats"))
        direct.ask("FLUSHALL")

        await until(lambda: not list(cache))

    watching(server.port, story)


def test_a_lost_connection_drops_nothing_that_is_still_there(
    new_redis: Callable[..., Server], connect: Connect
) -> None:
    server = new_redis()
    direct = connect(server)

    async def story(watch: KeyWatch, cache: Cache[bytes]) -> None:
        tracking = watch.tracking
        assert tracking is not None
        await until(lambda: tracking.is_open)
        stored(direct, cache)
        direct.ask("CLIENT KILL TYPE normal SKIPME yes")
        direct.ask("DEL deleted")

        await until(lambda: len(list(cache)) == len(CHANGES) - 1)
        assert (0, b"deleted") not in cache

    watching(server.port, story)
