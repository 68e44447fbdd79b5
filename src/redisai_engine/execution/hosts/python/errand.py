"""
A run of a Python model that the event loop begins, and whose answer it reads: two hand-overs to threads are spared.

Theory of operation. A worker takes one request at a time, so a short one always fits into its socket, and what arrives
there is the answer to it. Whatever isn't as usual (a long answer, a worker that has ended, a lock that another thread
holds) is left to a thread.

Invariant: the worker is given back once, whatever happens.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.backends.base import Array, Errand, Outputs
from redisai_engine.errors import ModelRunError
from redisai_engine.execution.hosts.models import StopHost
from redisai_engine.execution.hosts.process import HostEnded, Line
from redisai_engine.execution.hosts.python.workers import PythonWorkers

_MOST_BYTES = 48 * 1024  # of the inputs: one system call sends them, and the socket has room for them


class PythonErrand(Errand):
    """A run that `host` carries out, which was taken from `workers`."""

    def __init__(self, workers: PythonWorkers, host: Line, outputs: int) -> None:
        self._workers = workers
        self._host = host
        self._outputs = outputs
        self._stop = StopHost()
        self._told: Outputs | HostEnded | ModelRunError | None = None  # what the host has answered

    def begin(self, arrays: Sequence[Array], stop: StopHost, *, is_alone: bool) -> int:
        self._stop = stop
        stop.in_loop = False
        stop.begin(self._host)
        return self._host.send(arrays, is_alone=is_alone)

    def answer(self) -> Outputs | None:
        if not self._host.has_answer():
            return None
        try:
            self._told = self._host.answer()[1]
        except (HostEnded, ModelRunError) as error:
            self._told = error
        if isinstance(self._told, HostEnded) or self._stop.end() or not self._workers.put_back_now(self._host):
            return None
        return self._checked(self._told)

    def wait(self) -> Outputs:
        return self._checked(self._workers.finish(self._host, self._stop, self._answered))

    def _answered(self) -> Outputs:
        told = self._told
        if told is None:
            return self._host.answer()[1]
        if isinstance(told, Exception):
            raise told
        return told

    def _checked(self, told: Outputs | ModelRunError) -> Outputs:
        if isinstance(told, Exception):
            raise told
        check_answer(told, self._outputs)
        return told


def is_short(arrays: Sequence[Array]) -> bool:
    """Return whether an errand may take these inputs. Text takes too long to look at."""
    left = _MOST_BYTES
    for array in arrays:
        left -= array.nbytes
        if left < 0 or array.dtype.char == "O":
            return False
    return True


def check_answer(outputs: Outputs, count: int) -> None:
    """Raise ModelRunError unless there are as many outputs as there must be."""
    if len(outputs) != count or any(array is None for array in outputs):
        raise ModelRunError(f"ERR the worker answered {len(outputs)} tensors instead of {count}")
