"""The event loop stays awake for a connection that asks again at once, and for no other."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from redisai_engine import processors
from redisai_engine.config import Settings
from redisai_engine.service.polling import BusyPolling, microseconds

LONG = 3600.0  # seconds; longer than any test


def polling_after(turns: int, seconds: float) -> bool:
    """Return whether it polls after that many turns, one right after the other."""

    async def run() -> bool:
        polling = BusyPolling(asyncio.get_running_loop(), seconds)
        for _ in range(turns):
            polling.turn_ended()
        return polling.is_polling

    return asyncio.run(run())


def test_a_second_turn_right_behind_the_first_keeps_the_loop_awake() -> None:
    assert polling_after(2, LONG)


@pytest.mark.parametrize(("turns", "seconds"), [(1, 0.001), (100, 0.0)], ids=["one turn", "switched off"])
def test_otherwise_the_loop_may_sleep(turns: int, seconds: float) -> None:
    assert not polling_after(turns, seconds)


def test_a_loop_that_is_awake_goes_on_with_everything_else_and_sleeps_when_nothing_comes() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        polling = BusyPolling(loop, 0.01)
        polling.turn_ended()
        polling.turn_ended()
        assert polling.is_polling
        while polling.is_polling:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize(("cores", "workers", "expected"), [(1, 1, 0), (2, 1, 70), (2, 2, 0), (8, 3, 70)])
def test_workers_leave_a_processor_to_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, workers: int, expected: int
) -> None:
    monkeypatch.setattr(processors, "_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))

    assert microseconds(Settings(workers=workers, busy_poll=70)) == expected
