"""Fixtures for the engine's tests: an engine, the Redis behind it, and bare connections to both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from support.connection import Connect, Connection, connected
from support.gateway import Pair
from support.servers import Server, start_engine, start_redis


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An engine in front of its own Redis, shared by the whole session. Use keys of your own, and never FLUSHALL."""
    redis = start_redis(tmp_path_factory.mktemp("behind"))
    engine = start_engine(tmp_path_factory.mktemp("front"), "--redis", redis.url)
    yield Pair(engine, redis)
    engine.stop()
    redis.stop()


@pytest.fixture
def new_pair(new_redis: Callable[..., Server], new_engine: Callable[..., Server]) -> Callable[..., Pair]:
    """Return a function that starts both for one test: `new_pair("--strict", redis=("--requirepass", "secret"))`."""

    def start(*arguments: str, redis: tuple[str, ...] = ()) -> Pair:
        behind = new_redis(*redis)
        return Pair(new_engine("--redis", behind.url, *arguments), behind)

    return start


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a function that opens bare connections, closed after the test: `connect(pair.engine)`."""
    with contextlib.ExitStack() as opened:
        yield lambda server, **options: opened.enter_context(connected(server, **options))


@pytest.fixture
def wire(pair: Pair, connect: Connect) -> Connection:
    """A bare connection to the shared engine."""
    return connect(pair.engine)


@pytest.fixture
def direct(pair: Pair, connect: Connect) -> Connection:
    """A bare connection to the Redis behind the shared engine."""
    return connect(pair.redis)
