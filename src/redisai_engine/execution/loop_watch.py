"""
The watch over runs in the event loop: a thread that stops one that takes much longer than was foreseen.

The event loop can't do that itself, since the run holds it up. The executor tells what it runs by setting two
attributes, which costs next to nothing.

Invariant: while `is_asleep`, the thread waits for `wake` and uses no processor time.
"""

from __future__ import annotations

import threading
from time import monotonic

from redisai_engine.backends.base import Stop

#: Runs in the event loop are foreseen to take a five-hundredth of this.
LONGEST_SECONDS = 0.1

_LOOKS_PER_LIMIT = 2
_QUIET_LOOKS = 20  # after which the watch goes to sleep


class LoopWatch:
    """Set `since` and then `stop` before a run, and `stop` to None after it."""

    def __init__(self, longest_seconds: float = LONGEST_SECONDS) -> None:
        self.stop: Stop | None = None
        self.since = 0.0
        self.is_asleep = True
        self._longest = longest_seconds
        self._woken = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> bool:
        """Begin to look. Call it before the first run after a pause. Return False if the system allows no thread."""
        self.is_asleep = False
        if self._thread is None:
            thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                self.is_asleep = True
                return False
            self._thread = thread
        self._woken.set()
        return True

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        quiet = 0
        while not self._closed.wait(self._longest / _LOOKS_PER_LIMIT):
            since, stop = self.since, self.stop
            if stop is not None and monotonic() - since > self._longest and self.since == since:
                stop.terminate = True
            quiet = quiet + 1 if stop is None else 0
            if quiet > _QUIET_LOOKS:
                quiet = 0
                self._woken.clear()
                self.is_asleep = True
                self._woken.wait()
