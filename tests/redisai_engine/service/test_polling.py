"""The event loop stays awake for a connection that asks again at once, and for no other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import IO

import pytest

from redisai_engine import processors
from redisai_engine.config import Settings
from redisai_engine.service import polling as polling_module
from redisai_engine.service.polling import BusyPolling, PollingPlace, microseconds, worker_seconds
from support.waiting import until

LONG = 3600.0  # seconds; longer than any test


def polling_after(turns: int, seconds: float) -> bool:
    """Return whether it polls after that many turns, one right after the other."""

    async def run() -> bool:
        polling = BusyPolling(asyncio.get_running_loop(), seconds)
        for _ in range(turns):
            polling.turn_ended(monotonic())
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
        polling.turn_ended(monotonic())
        polling.turn_ended(monotonic())
        assert polling.is_polling
        await until(lambda: not polling.is_polling)

    asyncio.run(asyncio.wait_for(run(), 30))


def polling_of(seconds: float, story: Callable[[BusyPolling], None]) -> bool:
    """Return whether it polls at the end of a story."""

    async def run() -> bool:
        polling = BusyPolling(asyncio.get_running_loop(), seconds)
        story(polling)
        return polling.is_polling

    return asyncio.run(run())


def test_the_answer_of_a_run_elsewhere_says_nothing_of_the_client() -> None:
    """The client has asked at once, however long the model takes; or it hasn't, however short that is."""

    def quick_client(polling: BusyPolling) -> None:
        now = monotonic()
        polling.turn_ended(now)
        polling.turn_ended(now, is_elsewhere=True)
        polling.is_polling = False  # as if it had given up
        polling.turn_ended(now + 2 * LONG)

    def slow_client(polling: BusyPolling) -> None:
        polling.turn_ended(monotonic() + LONG + 1, is_elsewhere=True)
        polling.turn_ended(monotonic())

    assert polling_of(LONG, quick_client)
    assert not polling_of(LONG, slow_client)


def test_a_loop_sleeps_in_the_end_when_a_run_elsewhere_is_not_answered() -> None:
    async def run() -> None:
        polling = BusyPolling(asyncio.get_running_loop(), 0.01)
        polling.turn_ended(monotonic())
        polling.turn_ended(monotonic(), is_elsewhere=True)
        assert polling.is_polling
        await until(lambda: not polling.is_polling)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_loop_whose_core_others_need_sleeps_at_once_and_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        polling = BusyPolling(asyncio.get_running_loop(), LONG)
        polling.turn_ended(monotonic())
        polling.turn_ended(monotonic())
        assert polling.is_polling
        await until(lambda: not polling.is_polling)
        polling.turn_ended(monotonic())
        assert not polling.is_polling

    monkeypatch.setattr(polling_module, "CONTENDED_SECONDS", 0.0)  # whatever a poll takes is long
    monkeypatch.setattr(polling_module, "REST_SECONDS", LONG)
    asyncio.run(asyncio.wait_for(run(), 30))


def test_nobody_else_gets_the_core_before_a_turn_that_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    yielded: list[bool] = []

    async def run() -> None:
        polling = BusyPolling(asyncio.get_running_loop(), LONG)
        monkeypatch.setattr(os, "sched_yield", lambda: yielded.append(polling.is_due))
        for _ in range(2):
            polling.turn_ended(monotonic())
        for polling.is_due in (False, True, False):
            for _ in range(10):
                await asyncio.sleep(0)
        assert polling.is_polling

    asyncio.run(asyncio.wait_for(run(), 30))
    assert len(yielded) > 10
    assert not any(yielded)


@pytest.mark.parametrize(("cores", "expected"), [(1, 0), (2, 70), (8, 70)])
def test_the_only_processor_is_left_to_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, expected: int
) -> None:
    has_processors(monkeypatch, tmp_path, cores)

    settings = Settings(busy_poll=70)
    assert microseconds(settings) == expected
    assert worker_seconds(settings) == 2 * expected / 1e6


def has_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int) -> None:
    monkeypatch.setattr(processors, "_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))


#: Takes the place to poll in of worker {number} on {cores} processors, tells whether it has it, and waits.
TAKING = """
import os, sys
os.sched_getaffinity = lambda pid: set(range({cores}))
from redisai_engine import processors
from pathlib import Path
processors._QUOTA = Path("/nowhere")
from redisai_engine.service.polling import PollingPlace
print(PollingPlace({descriptor}, {number}).take(), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def workers_that_poll(file: IO[bytes], cores: int, numbers: Iterable[int]) -> Iterator[list[bool]]:
    """Start these workers one after another, and yield which of them have a place to poll in."""
    with contextlib.ExitStack() as running:
        have = []
        for number in numbers:
            program = TAKING.format(cores=cores, number=number, descriptor=file.fileno())
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    pass_fds=[file.fileno()],
                )
            )
            assert process.stdout is not None
            have.append(process.stdout.readline() == b"True\n")
        yield have


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [(2, 2, [True, False]), (3, 4, [True, True, False, False]), (4, 3, [True, True, True])],
)
def test_workers_leave_a_processor_to_others(cores: int, workers: int, expected: list[bool]) -> None:
    with tempfile.TemporaryFile() as file, workers_that_poll(file, cores, range(1, workers + 1)) as have:
        assert have == expected


def test_a_worker_that_has_ended_leaves_its_place_to_another() -> None:
    with tempfile.TemporaryFile() as file:
        with workers_that_poll(file, 2, [1]) as have:
            assert have == [True]
        with workers_that_poll(file, 2, [2]) as have:
            assert have == [True]


def polling_in(file: IO[bytes], seconds: float) -> tuple[bool, list[bool]]:
    """
    Return whether a loop polls that shares its place with another process, and whether that one can have it meanwhile.

    Return when the loop has ended polling.
    """

    async def run() -> tuple[bool, list[bool]]:
        polling = BusyPolling(asyncio.get_running_loop(), seconds, PollingPlace(file.fileno(), 1))
        polling.turn_ended(monotonic())
        polling.turn_ended(monotonic())
        is_polling = polling.is_polling
        with workers_that_poll(file, 2, [1]) as have:
            pass
        await until(lambda: not polling.is_polling)
        return is_polling, have

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_the_place_is_kept_while_the_loop_polls_and_no_longer() -> None:
    with tempfile.TemporaryFile() as file:
        assert polling_in(file, 0.05) == (True, [False])
        with workers_that_poll(file, 2, [2]) as have:
            assert have == [True]


def test_without_a_place_the_loop_may_sleep() -> None:
    with tempfile.TemporaryFile() as file, workers_that_poll(file, 2, [1]):
        assert polling_in(file, LONG) == (False, [False])
