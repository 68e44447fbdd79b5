"""
The process from which all hosts of one framework are forked, as the engine sees it (its program is `forking.py`).

It is started when the first model needs it, and again after it has died, but not at once if it keeps dying. When
nothing has needed it for a while it is stopped, until it is needed again.

What it and its hosts print goes where its standard output and error lead, which is read always.

Invariants: it ends with the engine, even if that is killed, because its end of the control socket closes. It isn't
stopped while anything exists that has entered, as each host has before it is asked for.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeAlias
from weakref import WeakSet

from redisai_engine.backends.registry import BACKENDS
from redisai_engine.errors import BackendMissing, ModelLoadError
from redisai_engine.execution.hosts.frames import ANY_FRAME
from redisai_engine.execution.hosts.restarts import Restarts

_log = logging.getLogger(__name__)

#: Returns the writing end of a new pipe, given what each line that is written there begins with in the log.
Output: TypeAlias = Callable[[str], int]

_MOST_BYTES = 1 << 16
_END_SECONDS = 2.0
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from redisai_engine.execution.hosts.forking import main; main()"
)
#: What frameworks, their libraries and Python are configured by. Everything else may be a secret.
_PASSED_ON = ("PATH", "LANG", "LC_", "TZ", "LD_", "PYTHON", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "MALLOC_")
_PASSED_ON_BY_FRAMEWORKS = ("TF_", "XLA_", "TORCH", "PYTORCH", "ORT_", "CUDA_", "NVIDIA_", "HIP_", "ROCM_", "GOMP_")


class Parent:
    """
    The process that forks the hosts of one backend. Its methods may be called in any thread.

    What is printed there goes to a pipe that `output` opens; without it, nowhere. `look` stops it when nothing has
    needed it for `idle_seconds`; 0: never.
    """

    def __init__(self, backend: str, output: Output | None = None, *, idle_seconds: float = 0.0) -> None:
        self.backend = backend
        self.limits = ANY_FRAME
        self.ends_slowly = False
        self._output = output or nowhere
        self._idle_seconds = idle_seconds
        self.version = ""  # of the framework; empty until it has been imported
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._stopped: subprocess.Popen[bytes] | None = None  # its end hasn't been seen yet
        self._users: WeakSet[object] = WeakSet()
        self._needed_at = 0.0
        self._restarts = Restarts()
        self._closed = False
        self._said = False

    def enter(self, user: object) -> None:
        """Don't stop the process while this object exists."""
        self._users.add(user)

    def fork(self, channel: socket.socket, lifeline: socket.socket, file: int, *, memory: int, gpu: bool) -> int:
        """
        Have a host forked that has these three, for a user that has entered. `memory` limits it, in bytes.

        Raise BackendMissing if the framework isn't installed, ModelLoadError if the process ends, and OSError if the
        system refuses to start it.
        """
        text = json.dumps({"memory": memory, "gpu": gpu}).encode()
        descriptors = [channel.fileno(), lifeline.fileno(), file]
        with self._lock:  # so that it isn't stopped between the two
            for _ in range(2):
                control = self._started()
                try:
                    socket.send_fds(control, [text], descriptors)
                except OSError:
                    self._died()
                else:
                    return 0
        raise ModelLoadError(f"ERR the process of backend {self.backend} has ended; try again")

    def say_missing(self, missing: Sequence[str]) -> None:
        """Say in the log, once, what hosts aren't kept from because this kernel can't."""
        if missing and not self._said:
            self._said = True
            _log.warning("processes of %s models are not restricted in %s", self.backend, " and ".join(missing))

    def start(self) -> None:
        """Start the process, if it isn't running, and wait for that. Raise the errors of `fork`."""
        with self._lock:
            self._started()

    def look(self) -> None:
        """Stop the process if nothing has needed it for long. Call it about once a second. Never wait."""
        if self._idle_seconds and self._lock.acquire(blocking=False):  # otherwise it is being used
            try:
                self._stop_if_idle(monotonic())
            finally:
                self._lock.release()

    @property
    def is_running(self) -> bool:
        """Whether the process has been started, is being started or has just died."""
        return self._process is not None

    def close(self) -> None:
        """End the process and all its hosts, even if it is still importing the framework."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # before the lock, whose owner may be waiting for this process
        with self._lock:
            self._end()
            if self._stopped is not None:
                self._stopped.kill()
                self._stopped.wait()

    def _started(self) -> socket.socket:
        """Return the control socket of the running process. The first caller waits until the framework is imported."""
        self._needed_at = monotonic()
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        if self._closed:
            raise ModelLoadError("ERR the engine is shutting down; connect again")
        if self._process is not None:
            self._died()
        wait = self._restarts.wait(monotonic())
        if wait:
            raise ModelLoadError(f"ERR the process of backend {self.backend} has ended; try again in {wait:.1f} s")
        control = self._start()
        self._needed_at = monotonic()
        return control

    def _died(self) -> None:
        self._restarts.died(monotonic())
        self._end()

    def _stop_if_idle(self, now: float) -> None:
        if self._stopped is not None and self._stopped.poll() is not None:
            self._stopped = None
        if self._users:
            self._needed_at = now
        elif self._control is not None and now - self._needed_at >= self._idle_seconds and self._stopped is None:
            self._control.close()  # that is how it knows; it has no hosts
            self._stopped, self._process, self._control = self._process, None, None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = self._program(theirs.fileno())
        except OSError:
            ours.close()
            raise
        self._control = ours
        if self._closed:
            self._process.kill()
        answer = ours.recv(_MOST_BYTES)
        if not answer:
            raise ModelLoadError(f"ERR the process of backend {self.backend} ended while importing the framework")
        said = json.loads(answer)
        if "failed" in said:
            self._end()
            raise BackendMissing(self.backend, BACKENDS[self.backend].package)
        self.version = said["version"]
        return ours

    def _program(self, control: int) -> subprocess.Popen[bytes]:
        with open(self._output(f"{self.backend} printed: "), "wb", buffering=0) as printed:
            return subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM, self.backend, str(control), json.dumps(search_path())],
                pass_fds=(control,),
                env=passed_on(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                start_new_session=True,  # Ctrl-C must reach only the engine, which finishes its runs first
            )

    def _end(self) -> None:
        end_process(self._process, self._control)
        self._process = self._control = None


def end_process(process: subprocess.Popen[bytes] | None, control: socket.socket | None) -> None:
    """End a process that ends when its control socket does. Kill it if that takes long."""
    if control is not None:
        control.close()
    if process is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        process.kill()
        process.wait()


def nowhere(prefix: str) -> int:
    return os.open(os.devnull, os.O_WRONLY)


def search_path() -> list[str]:
    """Return where Python finds modules, as folders that don't depend on the current one."""
    return [os.path.abspath(folder) for folder in sys.path if folder]


def passed_on() -> dict[str, str]:
    passed_on = (*_PASSED_ON, *_PASSED_ON_BY_FRAMEWORKS)
    return {name: value for name, value in os.environ.items() if name.startswith(passed_on)}
