"""
SIGTERM and SIGINT: the engine is asked to stop, and does so within a time, whatever runs.

Theory of operation. Python writes the number of each signal into a socket, which a thread reads. The thread sets the
event loop's event, and ends the process when the time is up. So a signal is obeyed even if the event loop hangs, and if
a framework's thread can't be stopped. Code that doesn't give the interpreter free holds up the thread, and there is no
thread any more while the interpreter ends; then the kernel ends the process, by the alarm that it was given when the
signal was seen.

Invariant: the process ends at most `seconds` after the first signal is seen, or `_GRACE_SECONDS` later by the kernel.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GRACE_SECONDS = 3.0  # for `at_end`
_SOFT = 0.9  # the part of the time after which no more waiting is done, so that the rest suffices for an orderly end

_log = logging.getLogger(__name__)


class Shutdown:
    """
    The request to stop: `await stop.wait()`. A context manager, inside a running event loop.

    `at_end` is called just before the process is ended because the time is up.
    """

    def __init__(self, seconds: float, at_end: Callable[[], None]) -> None:
        self._seconds = seconds
        self._at_end = at_end
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._deadline: float | None = None
        self._timer: threading.Timer | None = None
        self._reader, self._writer = socket.socketpair()
        self._before = -1

    def __enter__(self) -> Shutdown:
        os.set_blocking(self._writer.fileno(), False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)  # the number alone counts
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        signal.set_wakeup_fd(self._before)
        self._writer.close()  # which ends the thread

    async def wait(self) -> None:
        await self._event.wait()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """Have the engine stop, as a signal does. Call it in the event loop's thread."""
        self._start_timer()
        self._asked()

    def seconds_left(self) -> float:
        """Return how long the engine may still wait for running work."""
        if self._deadline is None:
            return self._seconds * _SOFT
        return max(0.0, self._deadline - self._loop.time())

    def _asked(self) -> None:
        if self._deadline is None:
            self._deadline = self._loop.time() + self._seconds * _SOFT
        self._event.set()

    def _listen(self) -> None:
        with self._reader:
            while numbers := self._reader.recv(64):
                if set(numbers) & set(_SIGNALS):
                    self._start_timer()
                    self._loop.call_soon_threadsafe(self._asked)

    def _start_timer(self) -> None:
        if self._timer is None:
            signal.setitimer(signal.ITIMER_REAL, self._seconds + _GRACE_SECONDS)
            self._timer = threading.Timer(self._seconds, self._give_up)
            self._timer.daemon = True
            self._timer.start()

    def _give_up(self) -> None:
        _log.error("what runs didn't end within %g s (shutdown-timeout); the engine exits without it", self._seconds)
        self._at_end()
        os._exit(1)
