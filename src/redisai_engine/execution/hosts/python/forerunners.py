"""
The forerunner of an environment as the engine sees it (its program is `forerunner.py`), and the guards forked from it.

It is started for the first worker of the environment, and again for the next one after it has died. Where it can't be
used, workers are processes of their own.

Invariant: a worker's sockets are sent at most once, so that never two workers have the same.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import threading
import weakref
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol

from redisai_engine.errors import ModelLoadError
from redisai_engine.execution.hosts.frames import is_silent
from redisai_engine.execution.hosts.parent import end_process

_log = logging.getLogger(__name__)

_IMPORT_SECONDS = 180.0  # on a busy machine, importing MLflow takes a minute
_FORK_SECONDS = 30.0
_MOST_BYTES = 1 << 16

#: Starts the program with the other end of a control socket.
Begin = Callable[[socket.socket], "subprocess.Popen[bytes]"]


class Guard(Protocol):
    """A guard's process, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Return None as long as it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raise subprocess.TimeoutExpired."""

    def kill(self) -> None:
        """Kill it, if it runs."""


class ForkedGuard:
    """A guard that a forerunner has forked. It holds the other end of `leash` as long as it lives."""

    def __init__(self, process: int, leash: socket.socket) -> None:
        self.pid = process
        self._leash = leash
        weakref.finalize(self, leash.close)

    def poll(self) -> int | None:
        return None if is_silent(self._leash) else 0

    def wait(self, timeout: float | None = None) -> int:
        if not select.select([self._leash], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("guard", timeout or 0.0)
        return 0

    def kill(self) -> None:
        if self.poll() is None:  # so the number is still its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Forerunner:
    """The process from which the guards of one environment are forked. Its methods may be called in any thread."""

    def __init__(self, name: str, begin: Begin) -> None:
        self._name = name
        self._begin = begin
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._is_unfit = False  # for forking
        self._closed = False
        self._guards: list[ForkedGuard] = []
        self._used_at = monotonic()

    def is_ready(self) -> bool:
        """Start it unless it runs. Return False if it can't be used. The first caller waits for its imports."""
        with self._lock:
            return self._ready() is not None

    def fork(self, given: dict[str, Any], descriptors: Sequence[int]) -> ForkedGuard | None:
        """
        Have a guard forked that has these descriptors. Return None if it can't be used, and nobody has them.

        Raise ModelLoadError if it has died since, and a guard may have them.
        """
        text = json.dumps(given).encode()
        with self._lock:
            for _ in range(2):
                control = self._ready()
                if control is None:
                    return None
                self._used_at = monotonic()
                said, leash = self._asked(control, text, descriptors)
                if "process" in said:
                    self._guards.append(ForkedGuard(int(said["process"]), leash))
                    return self._guards[-1]
                self._end()
                with leash:
                    if is_silent(leash):  # somebody holds its other end: a guard has been forked
                        break
        raise ModelLoadError(
            f"ERR the process that starts workers with {self._name} has failed "
            f"({said.get('failed', 'it has ended')}); try again"
        )

    def is_idle(self, now: float, seconds: float) -> bool:
        """Return whether it has had no guards for so many seconds. Never wait."""
        if not self._lock.acquire(blocking=False):
            return False  # somebody starts or uses it
        try:
            self._guards = [guard for guard in self._guards if guard.poll() is None]
            if self._guards:
                self._used_at = now
            return self._process is not None and now - self._used_at > seconds
        finally:
            self._lock.release()

    def close(self) -> None:
        """End it for good, even if it is importing. Guards go on."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # before the lock, whose owner may be waiting for this process
        self.end()

    def end(self) -> None:
        """End it until it is needed again."""
        with self._lock:
            self._end()

    def _asked(
        self, control: socket.socket, text: bytes, descriptors: Sequence[int]
    ) -> tuple[dict[str, Any], socket.socket]:
        """Ask for a guard. Return what is answered, and the leash of the guard."""
        leash, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(control, [text], [*descriptors, theirs.fileno()])
            except OSError:  # it has died
                return {}, leash
        return self._answer(control, _FORK_SECONDS), leash

    def _ready(self) -> socket.socket | None:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._end()
        if self._is_unfit or self._closed:
            return None
        return self._started()

    def _started(self) -> socket.socket | None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = self._begin(theirs)
        except OSError:  # whoever starts a worker of its own then is told why
            ours.close()
            return None
        self._control = ours
        if self._closed:
            self._process.kill()
        said = self._answer(ours, _IMPORT_SECONDS)
        if said.get("threads") == 1:
            return ours
        self._end()
        self._is_unfit = True
        _log.info("workers with %s are processes of their own (%s)", self._name, said or "its imports have failed")
        return None

    def _answer(self, control: socket.socket, seconds: float) -> dict[str, Any]:
        """Return what it answers, or nothing if it has ended or takes too long."""
        control.settimeout(seconds)
        try:
            said = json.loads(control.recv(_MOST_BYTES) or b"{}")
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def _end(self) -> None:
        end_process(self._process, self._control)
        self._process = self._control = None
