"""The turn: in which order connections are served, and that no failure keeps the next turn from coming."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from redisai_engine.execution.executor import Executor
from redisai_engine.service.polling import BusyPolling
from redisai_engine.service.turn import Turn


class Participant:
    """Records what is asked of it; `dispatch` and `flush` may raise."""

    def __init__(self, notes: list[str], name: str, *, fails_in: str = "") -> None:
        self._notes = notes
        self._name = name
        self._fails_in = fails_in
        self.then: Callable[[], None] | None = None

    def dispatch(self) -> None:
        self._note("dispatch")
        if self.then is not None:
            then, self.then = self.then, None
            then()

    def flush(self) -> None:
        self._note("flush")

    def fail(self) -> None:
        self._notes.append(f"{self._name} fail")

    def abort(self) -> None:
        self._notes.append(f"{self._name} abort")

    def _note(self, what: str) -> None:
        self._notes.append(f"{self._name} {what}")
        if self._fails_in == what:
            raise ValueError(f"{self._name} in {what}")


def turns(story: Callable[[Turn, list[str]], None], *, count: int = 1) -> list[str]:
    """Return the notes of `count` turns of a loop after `story`."""
    notes: list[str] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        executor = Executor(loop)
        story(Turn(loop, executor, BusyPolling(loop, 0)), notes)
        for _ in range(count):
            await asyncio.sleep(0)
            notes.append("|")
        executor.close()

    asyncio.run(run())
    return notes


@pytest.mark.parametrize("fails_in", ["", "dispatch"])
def test_a_turn_is_due_from_a_touch_until_it_takes_place(fails_in: str) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        executor, polling = Executor(loop), BusyPolling(loop, 0)
        turn = Turn(loop, executor, polling)
        for _ in range(2):
            assert not polling.is_due
            turn.touch(Participant([], "a", fails_in=fails_in))
            assert polling.is_due
            await asyncio.sleep(0)
        assert not polling.is_due
        executor.close()

    asyncio.run(run())


def test_all_are_dispatched_before_any_is_flushed():
    def story(turn: Turn, notes: list[str]) -> None:
        for name in "ab":
            turn.touch(Participant(notes, name))

    assert turns(story) == ["a dispatch", "b dispatch", "a flush", "b flush", "|"]


def test_who_is_touched_twice_is_looked_after_once():
    def story(turn: Turn, notes: list[str]) -> None:
        one = Participant(notes, "a")
        turn.touch(one)
        turn.touch(one)

    assert turns(story) == ["a dispatch", "a flush", "|"]


def test_who_is_only_answered_is_flushed_alone():
    def story(turn: Turn, notes: list[str]) -> None:
        turn.answered(Participant(notes, "a"))

    assert turns(story) == ["a flush", "|"]


def test_who_is_touched_in_a_turn_is_dispatched_in_it():
    def story(turn: Turn, notes: list[str]) -> None:
        one, other = Participant(notes, "a"), Participant(notes, "b")
        one.then = lambda: turn.touch(other)
        turn.touch(one)

    assert turns(story) == ["a dispatch", "b dispatch", "a flush", "b flush", "|"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("dispatch", ["a dispatch", "a fail", "b dispatch", "a flush", "b flush", "|"]),
        ("flush", ["a dispatch", "b dispatch", "a flush", "a abort", "b flush", "|"]),
    ],
)
def test_what_fails_in_one_connection_costs_no_other_its_turn(where: str, expected: list[str]):
    def story(turn: Turn, notes: list[str]) -> None:
        turn.touch(Participant(notes, "a", fails_in=where))
        turn.touch(Participant(notes, "b"))

    assert turns(story) == expected


@pytest.mark.parametrize("where", ["dispatch", "flush"])
def test_after_a_failure_turns_go_on(where: str):
    """Once, after a failed turn no other was planned, and nobody was answered any more."""

    def story(turn: Turn, notes: list[str]) -> None:
        turn.touch(Participant(notes, "a", fails_in=where))
        asyncio.get_running_loop().call_soon(lambda: turn.touch(Participant(notes, "b")))

    assert "b flush" in turns(story, count=3)
