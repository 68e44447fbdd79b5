"""
The child process in which models are converted: `process` starts it, and talks to it over a socket.

The child itself never touches a model. For each assignment it forks a worker, watches the worker's time and memory, and
says how it ended. So libraries are imported once, a model can crash or hang, and everything ends with the caller, even
if that is killed: the child then sees the end of the socket.

The worker leads a process group, so that what it starts ends with it. It has a folder of its own for temporary files,
and leaves its outcome there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from mlflow_redisai.deploy import memory
from mlflow_redisai.deploy.assignment import Assignment, Ended
from mlflow_redisai.deploy.work import behave_as_the_caller, carry_out
from mlflow_redisai.models.registry import FLAVORS, module_of

OUTCOME = "outcome"
LOOK_EVERY_S = 0.02
WEIGH_EVERY_S = 0.1  # reading the memory of a process costs more than asking whether it has ended
_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h
# What every conversion imports.
_COMMON = ("mlflow.models", "mlflow.pyfunc", "pandas", "onnx")


class CallerGone(Exception):
    """The process that gave the assignment has closed the socket, or has ended."""


def main(descriptor: int) -> None:
    """Serve assignments that arrive on the socket, until the caller closes it."""
    caller = socket.socket(fileno=descriptor)
    stream: Any = caller.makefile("rwb")
    for name in _COMMON:
        import_module(name)
    known: set[str] = set()
    with contextlib.suppress(CallerGone, EOFError, OSError), _Folder() as folder:
        _send(stream, "ready")
        while True:
            assignment: Assignment = pickle.load(stream)  # from this plugin  # nosec B301
            _import_libraries(assignment.flavor, known)
            path = folder.new()
            ended = _watched(assignment, _start(assignment, path, caller), caller)
            if ended == Ended():
                known.add(assignment.flavor)
            _send(stream, (ended, str(path)))


def _send(stream: Any, reply: object) -> None:
    pickle.dump(reply, stream)
    stream.flush()


def _import_libraries(flavor: str, known: set[str]) -> None:
    """Import the libraries of a flavor that was converted before, which shows that importing them does no harm."""
    if flavor in known and flavor in FLAVORS:
        with _silence():
            for package in FLAVORS[flavor].packages:
                import_module(module_of(package))
            FLAVORS[flavor].load()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Show nothing. What a library says when it is imported was shown when a worker imported it."""
    shown = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(shown[0], 1)
        os.dup2(shown[1], 2)
        for descriptor in (*shown, nowhere):
            os.close(descriptor)


class _Folder:
    """The temporary folder of the worker that ran last. The caller removes it, and so does this process at its end."""

    def __init__(self) -> None:
        self.path: str | None = None

    def new(self) -> Path:
        self.path = tempfile.mkdtemp(prefix="mlflow-redisai-")
        return Path(self.path)

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)


# -- the worker ------------------------------------------------------------------------------------


def _start(assignment: Assignment, folder: Path, caller: socket.socket) -> int:
    """Fork the worker and return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python warns of threads, but those that imports have started (pyarrow's) hold no locks.
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        _work(assignment, folder, caller)
    with contextlib.suppress(OSError):  # the worker was faster
        os.setpgid(pid, pid)
    return pid


def _work(assignment: Assignment, folder: Path, caller: socket.socket) -> None:
    """Carry out the assignment and end the process, whatever happens."""
    code = 1
    try:
        _on_its_own(folder)
        os.close(caller.fileno())
        wanted = behave_as_the_caller(assignment)
        outcome = replace(carry_out(assignment), wanted=frozenset(wanted))
        with (folder / OUTCOME).open("wb") as file:
            pickle.dump(outcome, file, protocol=5)  # without a copy of the model in memory
        code = 0
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _on_its_own(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # If the machine runs out of memory, Linux ends this process, and not one that somebody needs.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


# -- its end ---------------------------------------------------------------------------------------


def _watched(assignment: Assignment, pid: int, caller: socket.socket) -> Ended:
    """Wait for the worker's end and say how it ended. Raise CallerGone. Nothing of its process group stays."""
    started = weighed = time.monotonic()
    try:
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return _how(status)
            now = time.monotonic()
            if assignment.timeout_s is not None and now - started > assignment.timeout_s:
                return Ended(too_long=True)
            if assignment.memory is not None and now - weighed > WEIGH_EVERY_S:
                weighed = now
                if memory.used(pid) > assignment.memory:
                    return Ended(too_large=True)
            # The caller sends nothing meanwhile. What can be read is the end.
            if select.select([caller], [], [], LOOK_EVERY_S)[0]:
                raise CallerGone
    finally:
        _end(pid)


def _end(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):  # waited for before
        os.waitpid(pid, 0)


def _how(status: int) -> Ended:
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL:
        return Ended(crash="SIGKILL, which Linux sends when the machine runs out of memory")
    if code < 0:
        known = -code in {each.value for each in signal.Signals}
        return Ended(crash=signal.Signals(-code).name if known else f"signal {-code}")
    return Ended() if code == 0 else Ended(crash=f"exit code {code}")
