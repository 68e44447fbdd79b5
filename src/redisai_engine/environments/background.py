"""
Builds that no request waits for: those of environments that a stored model wants and this machine lacks.

Invariant: of each environment there is one build at a time. After a failure none begins for a while, in which the
failure is told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from redisai_engine.errors import EngineError, EnvironmentFailure

_AGAIN_SECONDS = 30.0  # from a failure to the next build, if somebody asks for it
_MOST_FAILURES = 1000  # that are remembered


class Background:
    """The builds of one process, by the names of environments. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began_at: dict[str, float] = {}
        self._failures: dict[str, tuple[float, EngineError]] = {}

    def begin(self, name: str, build: Callable[[], object]) -> EngineError:
        """Have an environment built, unless it is. Return what is to be said of it meanwhile."""
        now = monotonic()
        with self._lock:
            failed_at, failure = self._failures.get(name, (0.0, None))
            if failure is not None and now < failed_at + _AGAIN_SECONDS:
                return failure
            if name not in self._began_at:
                # First, as the system may refuse it; until the lock is free it can't end.
                threading.Thread(target=self._build, args=(name, build), name="environment", daemon=True).start()
                self._began_at[name] = now
            return EnvironmentFailure(
                f"this machine lacks it; it is being built, for {now - self._began_at[name]:.0f} s so far; try again "
                f"later (logs/{name}.log in env-dir has the progress)"
            )

    def _build(self, name: str, build: Callable[[], object]) -> None:
        failure: EngineError | None = None
        try:
            build()
        except EngineError as error:
            failure = error
        except Exception as error:  # whoever asks next is told, instead of waiting for ever
            failure = EnvironmentFailure(f"{type(error).__name__}: {error}")
        with self._lock:
            del self._began_at[name]
            self._failures.pop(name, None)
            if len(self._failures) >= _MOST_FAILURES:
                self._failures.clear()
            if failure is not None:
                self._failures[name] = monotonic(), failure
