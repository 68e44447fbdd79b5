"""
The workers of one Python model.

Theory of operation. The first worker is started when the model is loaded, and the others, if several are asked for,
behind it. A worker that dies is replaced in the background, with a growing pause between deaths, so a run usually finds
a worker that waits. A run that finds none waits for the next one, but is told at once if that takes long, if the next
one can't be started, or if there won't be one because the model has failed. Idle workers may be stopped; the next run
then has them started again.

Invariant: there are never more workers than asked for, those that are being started included.
"""

from __future__ import annotations

import logging
import threading
import weakref
from time import monotonic
from typing import Any

from redisai_engine.errors import EngineError, ModelRunError
from redisai_engine.execution.hosts.models import HostLimits, Hosts, StopHost, stopped
from redisai_engine.execution.hosts.process import HostEnded, Line
from redisai_engine.execution.hosts.python.starting import Interpreter, Starting

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2  # how soon a run that waits learns that it is to stop


class PythonWorkers(Hosts):
    """`host_limits.at_once` workers, which are stopped after `idle_seconds` without a run; 0: never."""

    def __init__(
        self,
        starting: Starting,
        interpreter: Interpreter,
        host_limits: HostLimits,
        about: dict[str, Any],
        content: bytes,
        *,
        idle_seconds: float,
    ) -> None:
        super().__init__(interpreter, host_limits, about, content)
        self._watching = starting
        self._closing = starting.closing
        self._idle_seconds = idle_seconds
        self._used_at = monotonic()
        self._starts_at = 0.0  # when the next worker is started, if one has to wait
        self._failures = 0  # starts that have failed
        self._failure = ""  # why the last one of them has

    def load(self) -> dict[str, Any]:
        """Start the first worker, and have the others started. Raise ModelLoadError."""
        said = super().load()
        with self._changed:
            self._fill()
        self._watching.watch(self)
        return said

    def look_after(self, now: float) -> None:
        """Replace workers that have died between runs, and stop all if none was needed for long."""
        with self._changed:
            for host in list(self._free):
                self._buried(host)
            is_idle = self._idle_seconds and now - self._used_at > self._idle_seconds
            if is_idle or self._restarts.failed:
                self._end_free()
            else:
                self._fill()

    def end(self) -> None:
        with self._changed:
            for host in list(self._all):
                host.kill()

    @property
    def count(self) -> int:
        """How many workers there are."""
        return len(self._all)

    def take_now(self) -> Line | None:
        """Return a free worker. Never wait: None, if there may be none, or it may have ended."""
        if not self._free or not self._changed.acquire(blocking=False):
            return None
        try:
            if self._restarts.failed or not self._free or not self._free[0].is_there():
                return None
            self._used_at = monotonic()
            return self._free.pop(0)
        finally:
            self._changed.release()

    def put_back_now(self, host: Line) -> bool:
        """Give back a worker that has answered. Never wait: False, if that must."""
        if not self._changed.acquire(blocking=False):
            return False
        try:
            self._used_at = monotonic()
            self._free.append(host)
            self._changed.notify()
        finally:
            self._changed.release()
        return True

    def _take(self, stop: StopHost) -> Line:
        """Return a free worker. Wait for one, unless that takes long."""
        stop.waits = True
        try:
            with self._changed:
                self._used_at = monotonic()
                return self._next(stop)
        finally:
            stop.waits = False

    def _next(self, stop: StopHost) -> Line:
        known = self._failures
        while True:
            self._refuse_if_dying(0.0)
            while self._free:
                host = self._free.pop(0)  # the one that has waited longest, so that all get their part
                if not self._buried(host):
                    return host
            if stop.terminate:
                raise stopped()
            if self._failures > known and not self._all:
                raise ModelRunError(self._failure)
            self._fill()
            if not self._all:
                self._refuse_if_dying(self._starts_at - monotonic())
            self._changed.wait(_LOOK_SECONDS)

    def _buried(self, host: Line) -> bool:
        """Return whether a worker has died while it waited. If so, record it."""
        ended = host.ended()
        if ended is None:
            return False
        _log.warning("a worker of a Python model that had nothing to do %s", ended)
        self._died()
        self._all.discard(host)
        if host in self._free:
            self._free.remove(host)
        host.close()
        return True

    def _give_back(self, host: Line, *, ended: bool) -> None:
        with self._changed:
            self._used_at = monotonic()
            super()._give_back(host, ended=ended)
            if ended:
                self._fill()

    def _fill(self) -> None:
        """Have as many workers started as are missing, unless the model has failed."""
        while len(self._all) + self._starting < self._limits.at_once:
            if self._closing.is_set() or self._restarts.failed:
                return
            pause = self._restarts.wait(monotonic())
            self._starts_at = monotonic() + pause
            starting = threading.Thread(
                target=_start_later, args=(weakref.ref(self), self._closing, pause), name="python-start", daemon=True
            )
            try:
                starting.start()
            except RuntimeError as error:  # the system allows no more threads; `look_after` tries again
                self._failures += 1
                self._failure = f"ERR a worker can't be started: {error}"
                return
            self._starting += 1

    def start_one(self) -> None:
        """Start a worker that `_fill` has counted."""
        try:
            host, _ = self._start(StopHost())
        except Exception as error:
            problem = error.wire if isinstance(error, EngineError) else f"ERR {type(error).__name__}: {error}"
            _log.warning("a worker of a Python model can't be started: %s", problem.removeprefix("ERR "))
            self._started(problem)
        else:
            with self._changed:
                self._free.append(host)
                self._started("")

    def _started(self, problem: str) -> None:
        """Take note that a start has ended, with a problem or without one."""
        with self._changed:
            self._starting -= 1
            if problem:
                self._failures += 1
                self._failure = problem
            self._used_at = monotonic()
            self._changed.notify_all()

    def _load_error(self, error: BaseException, stop: StopHost) -> BaseException:
        if not isinstance(error, HostEnded):  # which counts already
            self._died()
        return super()._load_error(error, stop)

    def _end_free(self) -> None:
        for host in self._free:
            self._all.discard(host)
            host.close()
        self._free.clear()


def _start_later(reference: weakref.ref[PythonWorkers], closing: threading.Event, pause: float) -> None:
    """Start a worker after a pause, unless the model is gone by then."""
    if not closing.wait(pause):
        workers = reference()
        if workers is not None:
            workers.start_one()
