"""
Conversion in a child process: start it, hand it assignments, and turn its end into an answer or an error.

The child (`child`) is kept for a few seconds, because its start takes longer than most conversions. It is closed at
once when anything went wrong.

Invariant: when an exception other than a plain refusal leaves `conversion_process`, no process and no temporary file of
a conversion is left.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow_redisai import deadline, interrupts
from mlflow_redisai.deploy import main_names
from mlflow_redisai.deploy.assignment import Assignment, Ended, Outcome, ValuesOnly
from mlflow_redisai.deploy.child import OUTCOME
from mlflow_redisai.deploy.work import carry_out
from mlflow_redisai.errors import ConversionCrashed, ConversionTooLarge, ConversionTooLong, RedisAIError
from mlflow_redisai.models.base import Deployable
from redisai_engine.codec.mapping import Mapping

KEPT_S = 10.0  # how long a child waits for the next deployment
STOP_S = 10.0  # how long it may take to end what it runs, before it is killed
_OF_ONE_TEST = "PYTEST_CURRENT_TEST"  # pytest sets it anew for every test, which changes nothing for a child
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from mlflow_redisai.deploy.child import main; main(int(sys.argv[2]))"
)


class ConversionProcess:
    """A child that converts one model at a time. Its end ends everything that it runs."""

    def __init__(self) -> None:
        self.like = _surroundings()
        self.kept_until = 0.0
        self._ready = False
        self._sound = True
        self._socket, theirs = socket.socketpair()
        self._stream: Any = self._socket.makefile("rwb")
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _PROGRAM,
                    json.dumps([str(folder) for folder in sys.path]),
                    str(theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={"MLFLOW_DISABLE_TELEMETRY": "true", **os.environ},
                start_new_session=True,  # Ctrl-C in a terminal reaches only the caller, which ends the child
            )

    @property
    def usable(self) -> bool:
        """Whether it runs, in surroundings that are still the caller's, and ended no conversion at a limit or crash."""
        return self._sound and self._process.poll() is None and self.like == _surroundings()

    def convert(self, assignment: Assignment) -> Deployable:
        """
        Return the deployable. Its reference knows the answer to the input example, and runs nothing.

        Raise what the conversion raised, or ConversionTooLong, ConversionTooLarge or ConversionCrashed.
        """
        assignment = _as_here(assignment)
        while True:
            outcome = self._ask(assignment)
            more = main_names.pickled(outcome.wanted - assignment.main.keys())
            if not more:
                return _result(outcome)
            assignment = replace(assignment, main={**assignment.main, **more})

    def _ask(self, assignment: Assignment) -> Outcome:
        self._sound = False
        # When the call's time is over, `close` ends the conversion.
        self._socket.settimeout(deadline.at_most(None))
        try:
            if not self._ready:
                pickle.load(self._stream)  # nosec B301
                self._ready = True
            pickle.dump(assignment, self._stream)
            self._stream.flush()
            # The child never touches a model; what its workers, which do, have to say is read as values only.
            ended, folder = pickle.load(self._stream)  # nosec B301
        except (EOFError, OSError) as error:
            deadline.check()
            raise ConversionCrashed(assignment.flavor, assignment.uri, f"exit code {self._process.wait()}") from error
        try:
            outcome = _read(assignment, ended, Path(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._sound = True
        return outcome

    def close(self) -> None:
        """End the child and everything that it runs."""
        with interrupts.deferred():
            # Not only closed: a process that the caller has forked would keep it open.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            with contextlib.suppress(OSError):
                self._stream.close()
            try:
                # A child that isn't ready yet runs nothing.
                self._process.wait(STOP_S if self._ready else 0)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


class InThisProcess:
    """Converts in the calling process, without limits: where Python has no fork."""

    def convert(self, assignment: Assignment) -> Deployable:
        return _result(carry_out(assignment))


def _as_here(assignment: Assignment) -> Assignment:
    """Return the assignment with what the caller has set for its own process."""
    filters = tuple(each for each in warnings.filters if getattr(each[2], "__module__", "") == "builtins")
    named = logging.root.manager.loggerDict.items()
    levels = {name: logger.level for name, logger in named if isinstance(logger, logging.Logger) and logger.level}
    return replace(assignment, warning_filters=filters, log_levels={"": logging.root.level, **levels})


def _read(assignment: Assignment, ended: Ended, folder: Path) -> Outcome:
    if ended.too_long and assignment.timeout_s is not None:
        raise ConversionTooLong(assignment.flavor, assignment.uri, assignment.timeout_s)
    if ended.too_large and assignment.memory is not None:
        raise ConversionTooLarge(assignment.flavor, assignment.uri, assignment.memory >> 20)
    if ended.crash is not None:
        raise ConversionCrashed(assignment.flavor, assignment.uri, ended.crash)
    try:
        with (folder / OUTCOME).open("rb") as file:
            outcome: Outcome = ValuesOnly(file).load()
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise ConversionCrashed(assignment.flavor, assignment.uri, "no result") from error
    return outcome


def _result(outcome: Outcome) -> Deployable:
    if outcome.error is not None:
        raise outcome.error from RemoteTrace(outcome.trace)
    assert outcome.deployable is not None
    return replace(outcome.deployable, mapping=Mapping.from_json(outcome.mapping))


class RemoteTrace(Exception):
    """The traceback of an error in the child, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


# -- one child is kept -----------------------------------------------------------------------------

_kept: list[ConversionProcess] = []
_lock = threading.Lock()


@contextlib.contextmanager
def conversion_process() -> Iterator[ConversionProcess | InThisProcess]:
    """Yield a child that nobody else uses: the one that was kept, or a new one."""
    if not hasattr(os, "fork"):
        yield InThisProcess()
        return
    process = _take() or ConversionProcess()
    try:
        yield process
    except RedisAIError:
        _keep(process)
        raise
    except BaseException:
        process.close()
        raise
    _keep(process)


def _take() -> ConversionProcess | None:
    with _lock:
        process = _kept.pop() if _kept else None
    if process is None or process.usable:
        return process
    if process.like[0] == os.getpid():  # else it belongs to the process that this one was forked from
        process.close()
    return None


def _keep(process: ConversionProcess) -> None:
    with _lock:
        kept = process.usable and not _kept
        if kept:
            process.kept_until = time.monotonic() + KEPT_S
            _kept.append(process)
    if not kept:
        process.close()
        return
    timer = threading.Timer(KEPT_S, _let_go, [process])
    timer.daemon = True
    timer.start()


def _let_go(process: ConversionProcess) -> None:
    with _lock:
        # It may have been taken and kept again meanwhile.
        due = process in _kept and time.monotonic() >= process.kept_until
        if due:
            _kept.remove(process)
    if due:
        process.close()


@atexit.register
def close() -> None:
    """Close the child that was kept. The interpreter calls this at its end."""
    process = _take()
    if process is not None:
        process.close()


def _surroundings() -> tuple[Any, ...]:
    """Return what a child takes over at its start. One that was started under others is of no use."""
    variables = {name: value for name, value in os.environ.items() if name != _OF_ONE_TEST}
    return os.getpid(), tuple(sys.path), variables, os.getcwd(), *map(_file, (1, 2))


def _file(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino
