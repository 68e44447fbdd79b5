"""
Signal handling: interruptions as exceptions, and interruptions deferred while a change is being committed.

From Python, Ctrl-C is KeyboardInterrupt. Where MLflow's command line calls, it is the end of the process, with one line
and the exit code that shells expect.

By default SIGTERM and SIGHUP end Python at once, without running any `finally`. `as_exceptions` makes them behave like
Ctrl-C. `deferred` holds back all three while a change is committed, until the outcome is known.

Only the main thread receives signals and may set handlers. In any other thread both context managers do nothing.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def as_exceptions(what: str) -> Iterator[None]:
    """
    Raise SystemExit for a SIGTERM or SIGHUP inside the block, with the shell's exit code: 128 plus the signal's number.

    Signals that the application handles or ignores are left alone. `what` is going on, for the line that is printed.
    """
    with _signals_raise() as ours:
        try:
            yield
        except KeyboardInterrupt:
            leave_command_line(what)
            raise
        except _Ended as ended:
            if ended.number in ours and _from_command_line():  # once, of two blocks in each other
                _tell(what, ended.number)
            raise


def leave_command_line(what: str) -> None:
    """Raise SystemExit in place of a KeyboardInterrupt, and print a line, if MLflow's command line called."""
    if _from_command_line():
        _tell(what, signal.SIGINT)
        raise SystemExit(128 + signal.SIGINT) from None


def _from_command_line() -> bool:
    import click

    context = click.get_current_context(silent=True)
    return context is not None and getattr(context.command.callback, "__module__", "") == "mlflow.deployments.cli"


def _tell(what: str, number: int) -> None:
    with contextlib.suppress(OSError):  # SIGHUP: the terminal is gone
        print(f"{what} was interrupted by {signal.Signals(number).name}", file=sys.stderr, flush=True)


class _Ended(SystemExit):
    """A signal that ends the process."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


@contextlib.contextmanager
def _signals_raise() -> Iterator[list[signal.Signals]]:
    """Make signals raise inside the block. The value are those for which that is new."""
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    ours = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _leave)
    try:
        yield ours
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise _Ended(number)


class Pending:
    """The signals received while they were deferred."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def note(self, number: int, _frame: FrameType | None) -> None:
        self.numbers.append(number)


@contextlib.contextmanager
def deferred() -> Iterator[Pending]:
    """Hold signals back inside the block and deliver them at its end. The value is true once a signal has arrived."""
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return
    before: dict[int, Any] = {}
    for number in (signal.SIGINT, *ENDING):
        handler = signal.getsignal(number)
        # None: the handler was not set by Python, so it couldn't be restored.
        if handler is not signal.SIG_IGN and handler is not None:
            before[number] = signal.signal(number, pending.note)
    try:
        yield pending
    finally:
        for held, handler in before.items():
            signal.signal(held, handler)
        for received in pending.numbers:
            signal.raise_signal(received)
