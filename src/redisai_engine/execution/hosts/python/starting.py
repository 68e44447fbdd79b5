"""
The start of workers, and those that run.

Each worker is a process of its own, with a guard (`program.py`), started with an environment's Python, in a temporary
folder of its own. It sees none of the engine's environment but what frameworks are configured by, and none of its
files.

Invariant: after `close` no worker runs, and none can be started. The folders of engines that were killed are removed by
the guards, and what they leave by the next engine that starts (`folders.py`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from math import inf
from pathlib import Path
from socket import socket
from time import monotonic
from typing import IO, Any, Protocol
from weakref import WeakSet

from redisai_engine.errors import ModelLoadError
from redisai_engine.execution.hosts.frames import FrameLimits
from redisai_engine.execution.hosts.parent import Output, nowhere, passed_on
from redisai_engine.execution.hosts.python.forerunners import Forerunner, Guard
from redisai_engine.folders import PrivateFolder
from redisai_engine.users import ModelUser

_log = logging.getLogger(__name__)

_PROGRAM = Path(__file__).parent / "program.py"
_PARCELS = Path(__file__).parents[3] / "protocol" / "parcels"
_MOST_TEXT = 1 << 20  # bytes of the JSON in a frame
_UNPACKED = 10, 1 << 30  # an archive may take so many times its size unpacked, and so many bytes
_LOOK_SECONDS = 0.5  # within a second of the last death it must be known that a model has failed
_END_SECONDS = 4.0  # longer than a guard takes to kill a worker that ignores SIGTERM
#: What keeps frameworks from sending anything anywhere.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "ORT_DISABLE_TELEMETRY": "1"}


class Watched(Protocol):
    """What looks after the workers of one model."""

    def look_after(self, now: float) -> None:
        """End idle workers, and replace those that have died."""

    def end(self) -> None:
        """End all workers."""


class Starting:
    """
    All workers of an engine. Its methods may be called in any thread.

    `output` opens where one of them prints, `most_answer` limits what it answers, in bytes. `threads` is how many one
    of them computes with, if its environment doesn't say so; 0: its libraries decide. `awake_seconds` is how long one
    polls for its next request, if that may come soon.
    """

    def __init__(
        self,
        output: Output | None = None,
        *,
        most_answer: int,
        threads: int = 1,
        user: ModelUser | None = None,
        awake_seconds: float = 0.0,
    ) -> None:
        self.limits = FrameLimits(most_answer + 2 * _MOST_TEXT, _MOST_TEXT)
        self.closing = threading.Event()
        self._output = output or nowhere
        self._threads = threads
        self._user = user
        self._awake_seconds = awake_seconds
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._folder: PrivateFolder | None = None
        self._guards: list[Guard] = []
        self._forerunners: dict[tuple[str, tuple[str, ...] | None], tuple[Forerunner, WeakSet[Interpreter]]] = {}
        self._watched: WeakSet[Watched] = WeakSet()
        self._watch: threading.Thread | None = None

    def watch(self, workers: Watched) -> None:
        """Look after these workers from now on."""
        with self._lock:
            self._watched.add(workers)
            self._keep_looking()

    def enter(self, interpreter: Interpreter, python: str, path: list[str] | None) -> Forerunner:
        """Return the forerunner of the workers of an interpreter, which is kept as long as any needs it."""
        key = python, None if path is None else tuple(path)
        with self._lock:
            if key not in self._forerunners:
                self._forerunners[key] = Forerunner(python[:200], partial(self._begin, python, path)), WeakSet()
            forerunner, interpreters = self._forerunners[key]
            interpreters.add(interpreter)
            self._keep_looking()
        return forerunner

    def start(self, interpreter: Interpreter, descriptors: Sequence[int], *, memory: int) -> int:
        """
        Start a guard and its worker. `descriptors` are channel, lifeline and the file of the blob.

        `memory` limits the worker, in bytes; 0: any. Return the guard's process. Raise ModelLoadError.
        """
        number = next(self._numbers)
        python = interpreter.python
        try:
            with self._folder_for("worker-") as folder:
                given = {
                    "folder": folder,
                    "memory": memory,
                    "path": interpreter.path,
                    "awake": self._awake_seconds,
                    "parcels": str(_PARCELS),
                    "unpacked": _UNPACKED[0] * os.fstat(descriptors[2]).st_size + _UNPACKED[1],
                }
                is_forked = interpreter.forerunner.is_ready()
                with open(self._output(f"PYFUNC worker {number} printed: "), "wb", buffering=0) as printed:
                    guard: Guard | None = None
                    if is_forked:
                        told = {**given, "environment": _own_folder(folder)}
                        guard = interpreter.forerunner.fork(told, [*descriptors, printed.fileno()])
                    if guard is None:
                        given.update(zip(("channel", "lifeline", "blob"), descriptors, strict=True))
                        guard = self._process(python, given, descriptors, printed)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            who = f" as user {self._user.name}" if self._user is not None else ""
            raise ModelLoadError(f"ERR a worker can't be started with {python[:200]}{who}: {reason}") from error
        _log.info("PYFUNC worker %d is process group %d", number, guard.pid)
        with self._lock:
            self._guards.append(guard)
        if self.closing.is_set():
            guard.kill()
        return guard.pid

    def _begin(self, python: str, path: list[str] | None, control: socket) -> subprocess.Popen[bytes]:
        """Start the program of a forerunner."""
        with self._folder_for("forerunner-") as folder:
            given = {"control": control.fileno(), "folder": folder, "path": path}
            with open(self._output("PYFUNC printed: "), "wb", buffering=0) as printed:
                return self._process(python, given, [control.fileno()], printed)

    def _process(
        self, python: str, given: dict[str, Any], descriptors: Sequence[int], printed: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [python, "-I", str(_PROGRAM), json.dumps(given)],
            pass_fds=descriptors,
            env=self._environment(given["folder"]),
            cwd=given["folder"],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,  # Ctrl-C must reach only the engine, which finishes its runs first
            umask=0o077,
            user=None if self._user is None else self._user.id,
            group=None if self._user is None else self._user.group,
            extra_groups=None if self._user is None else [],
        )

    def close(self) -> None:
        """End all workers, and wait for that."""
        self.closing.set()
        with self._lock:
            watched, guards, forerunners = list(self._watched), list(self._guards), list(self._forerunners.values())
        for forerunner, _ in forerunners:
            forerunner.close()
        for workers in watched:
            workers.end()
        until = monotonic() + _END_SECONDS
        for guard in guards:
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.wait(max(until - monotonic(), 0.0))
            guard.kill()  # its worker ends with it
            guard.wait()
        with self._lock:
            folder, self._folder = self._folder, None
        if folder is not None:
            folder.remove()

    def _keep_looking(self) -> None:
        if self._watch is None:
            watch = threading.Thread(target=self._look, name="python-workers", daemon=True)
            watch.start()
            self._watch = watch

    def _look(self) -> None:
        while not self.closing.wait(_LOOK_SECONDS):
            with self._lock:
                watched = list(self._watched)
                self._guards = [guard for guard in self._guards if guard.poll() is None]
            while watched:
                watched.pop().look_after(monotonic())
            self._end_forerunners(monotonic())

    def _end_forerunners(self, now: float) -> None:
        """End the forerunners that no model needs any more, and those whose models are idle."""
        with self._lock:
            unneeded = [key for key, (_, interpreters) in self._forerunners.items() if not interpreters]
            ended = [self._forerunners.pop(key)[0] for key in unneeded]
            kept = [(forerunner, list(interpreters)) for forerunner, interpreters in self._forerunners.values()]
        for forerunner in ended:
            forerunner.close()
        for forerunner, users in kept:
            if forerunner.is_idle(now, max((each.idle_seconds or inf for each in users), default=inf)):
                forerunner.end()

    @contextlib.contextmanager
    def _folder_for(self, prefix: str) -> Iterator[str]:
        """Make a new temporary folder for a process, which removes it. Remove it if there is no process."""
        folder = self._new_folder(prefix)
        try:
            yield folder
        except (OSError, ValueError, subprocess.SubprocessError):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
            raise

    def _new_folder(self, prefix: str) -> str:
        """Return a new temporary folder that belongs to the workers' user."""
        with self._lock:
            if self.closing.is_set():
                raise ModelLoadError("ERR the engine is shutting down; connect again")
            if self._folder is None:
                self._folder = PrivateFolder()
                os.chmod(self._folder.path, 0o711)  # workers may be another user's  # nosec B103
            folder = tempfile.mkdtemp(prefix=prefix, dir=self._folder.path)
        if self._user is not None:
            os.chown(folder, self._user.id, self._user.group)
        return folder

    def _environment(self, folder: str) -> dict[str, str]:
        threads = {} if not self._threads else dict.fromkeys(_THREADS, str(self._threads))
        user = {} if self._user is None else {"USER": self._user.name, "LOGNAME": self._user.name}
        return {**threads, **passed_on(), **user, **_QUIET, **_own_folder(folder), "PYTHONUNBUFFERED": "1"}


def _own_folder(folder: str) -> dict[str, str]:
    return {"HOME": folder, "TMPDIR": folder}


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Interpreter:
    """
    A Python with which the workers of one model are started. `path` is where they find modules, None: its own.

    What the workers of all models with it have in common ends when none has run for `idle_seconds`; 0: never.
    """

    def __init__(self, starting: Starting, python: str, path: list[str] | None, *, idle_seconds: float = 0.0) -> None:
        self.limits = starting.limits
        self.ends_slowly = True  # it gets SIGTERM first
        self.python = python
        self.path = path
        self.idle_seconds = idle_seconds
        self._starting = starting
        self.forerunner = starting.enter(self, python, path)

    def enter(self, user: object) -> None:
        """Keep nothing: the forerunner looks after itself (`idle_seconds`)."""

    def fork(self, channel: socket, lifeline: socket, file: int, *, memory: int, gpu: bool) -> int:
        """Start a worker. It may use any device."""
        return self._starting.start(self, (channel.fileno(), lifeline.fileno(), file), memory=memory)

    def say_missing(self, missing: Sequence[str]) -> None:
        """Say nothing: workers aren't kept from anything that a kernel may lack."""
