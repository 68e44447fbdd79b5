"""
Signals and the two moments at which they matter: anywhere, and while a change is being committed.

Python ends at once on SIGTERM and SIGHUP, without running any `finally`; `as_exceptions` makes them behave like Ctrl-C.
`deferred` holds all of them back until an answer is there that says what was done. Only the main thread gets signals
and may set handlers; in any other thread both blocks just run.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Raise SystemExit with a shell's code, 128 + number, at a SIGTERM or SIGHUP in the block that nobody handles."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


class Pending:
    """The signals that came while they were deferred."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def note(self, number: int, _frame: FrameType | None) -> None:
        self.numbers.append(number)


@contextlib.contextmanager
def deferred() -> Iterator[Pending]:
    """Hold signals back inside the block and deliver them at its end; tell the block whether any came."""
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return
    before: dict[int, Any] = {}
    for number in (signal.SIGINT, *ENDING):
        handler = signal.getsignal(number)
        if handler is not signal.SIG_IGN and handler is not None:
            before[number] = signal.signal(number, pending.note)
    try:
        yield pending
    finally:
        for held, handler in before.items():
            signal.signal(held, handler)
        for received in pending.numbers:
            signal.raise_signal(received)
