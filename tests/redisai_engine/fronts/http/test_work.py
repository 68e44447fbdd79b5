"""Work on a connection: what it leaves in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator

import pytest

from redisai_engine.config import Settings
from redisai_engine.errors import EngineError
from redisai_engine.fronts.http.access.connection import Steps, UserConnection
from redisai_engine.redis.address import Address
from redisai_engine.service.engine import Engine


class Large:
    """Stands for an answer, or what a request was about."""


@pytest.fixture
def no_collection() -> Iterator[None]:
    """In an engine that has little to do, the next one may be far."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def answering(large: Large) -> Steps[Large]:
    yield []
    return large


def failing(large: Large) -> Steps[Large]:
    yield []
    raise EngineError("ERR it fails")


async def ask(steps: Steps[Large]) -> None:
    """Do the work for somebody who handles errors."""
    engine = Engine(Settings(), Address(port=1), asyncio.get_running_loop())  # asks no Redis here
    with contextlib.suppress(EngineError):
        await UserConnection(engine).ask(steps)
    await engine.close()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("work", [answering, failing])
def test_nothing_of_it_waits_for_a_collection(work: object) -> None:
    large = Large()
    found = weakref.ref(large)

    asyncio.run(ask(work(large)))  # type: ignore[operator]
    del large

    assert found() is None
