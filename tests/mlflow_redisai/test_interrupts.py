"""Signals become exceptions, and are deferred while a change is being committed."""

from __future__ import annotations

import signal
import threading

import pytest

from mlflow_redisai import interrupts


def test_sigterm_runs_the_cleaning_up() -> None:
    """By default, Python would exit at once."""
    cleaned = []

    with pytest.raises(SystemExit) as caught, interrupts.as_exceptions("work"):  # noqa: PT012
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    assert caught.value.code == 128 + signal.SIGTERM
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_programs_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with interrupts.as_exceptions("work"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert received == [signal.SIGTERM]


def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    reached = []

    with pytest.raises(KeyboardInterrupt), interrupts.deferred() as pending:  # noqa: PT012
        assert not pending
        signal.raise_signal(signal.SIGINT)
        reached.append(bool(pending))

    assert reached == [True]


def test_sigterm_waits_too_and_ends_the_block_around() -> None:
    reached = []

    with pytest.raises(SystemExit), interrupts.as_exceptions("work"), interrupts.deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        reached.append(True)

    assert reached == [True]


def test_handlers_are_as_before_afterwards() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    with interrupts.as_exceptions("work"), interrupts.deferred():
        pass

    assert [signal.getsignal(number) for number in numbers] == before


def test_other_threads_just_run() -> None:
    """Only the main thread receives signals, and Python lets no other thread set handlers."""
    ran = []

    def work() -> None:
        with interrupts.as_exceptions("work"), interrupts.deferred():
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert ran == [True]
