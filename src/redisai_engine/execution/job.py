"""
The data structures of execution: a model that can be run, a request to run it, and requests that run together.

Invariant: a job's `done` is called in the event loop's thread, exactly once unless it raises: then once more, with an
error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, TypeAlias

from redisai_engine.backends.base import Array, LoadedModel, Outputs, Stop
from redisai_engine.errors import EngineError
from redisai_engine.execution.statistics import RunStatistics

#: A run of up to this long costs less in the event loop than the hand-off to a thread and back.
SHORT_RUN_SECONDS = 200e-6

#: The weight of one measurement. Estimates fall fast, because a model's first run is slow and later ones are typical.
#: They rise slowly, because on a busy machine every other run may be interrupted.
_WEIGHT_DOWN, _WEIGHT_UP = 0.5, 0.05


class TimedOut(Enum):
    """The type of TIMED_OUT."""

    TIMED_OUT = "the request waited longer than its TIMEOUT"


TIMED_OUT: Final = TimedOut.TIMED_OUT

Outcome: TypeAlias = Outputs | EngineError | TimedOut


class RunnableModel:
    """
    A stored model in memory, ready to run.

    A `batch_size` of 0 means no batching, a `min_batch_size` of 0 no waiting, a `min_batch_timeout_ms` of 0 waiting
    without limit. `memory` is what it takes in bytes. `joinable` becomes False when a joined run shows that outputs
    can't be split among the requests.
    """

    __slots__ = (
        "_seconds",
        "backend_name",
        "batch_size",
        "device",
        "joinable",
        "loaded",
        "memory",
        "min_batch_size",
        "min_batch_timeout_ms",
        "statistics",
    )

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        backend_name: str,
        device: str = "CPU",
        batch_size: int = 0,
        min_batch_size: int = 0,
        min_batch_timeout_ms: int = 0,
        statistics: RunStatistics | None = None,
        memory: int = 0,
    ) -> None:
        self.loaded = loaded
        self.memory = memory
        self.backend_name = backend_name
        self.device = device.upper()
        self.batch_size = batch_size
        self.min_batch_size = min_batch_size
        self.min_batch_timeout_ms = min_batch_timeout_ms
        self.statistics = statistics or RunStatistics()
        self.joinable = True
        self._seconds: dict[int, float] = {}  # estimated run times, by the bit length of the number of input elements

    def is_short(self, elements: int) -> bool:
        """Return whether runs on about this many input elements are known to be shorter than a hand-off to a thread."""
        seconds = self._seconds.get(elements.bit_length())
        return seconds is not None and seconds < SHORT_RUN_SECONDS and self.loaded.steady

    def measured(self, elements: int, seconds: float) -> None:
        """Record how long a run on this many input elements took."""
        size = elements.bit_length()
        known = self._seconds.get(size)
        if known is None or seconds < known:
            weight = _WEIGHT_DOWN
        else:
            # The cap keeps one run that the machine interrupted from outweighing many undisturbed ones.
            weight, seconds = _WEIGHT_UP, min(seconds, known + 4 * SHORT_RUN_SECONDS)
        self._seconds[size] = seconds if known is None else known + weight * (seconds - known)


class Job:
    """
    A request to run `model` on `inputs`. `deadline`, in the event loop's time, limits how long it may wait.

    Without a model, the job only waits for its turn in the queue of `device`.
    """

    __slots__ = ("_done", "deadline", "device", "elements", "inputs", "model", "queued_at", "rows", "ticket")

    def __init__(
        self,
        model: RunnableModel | None,
        inputs: list[Array],
        deadline: float | None,
        done: Callable[[Outcome], None],
        device: str | None = None,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.deadline = deadline
        self._done = done
        self.device = device.upper() if device is not None else model.device if model is not None else "CPU"
        #: Number of elements of all inputs together, by which run times are estimated.
        self.elements = inputs[0].size if len(inputs) == 1 else sum([array.size for array in inputs])
        # Set by the queue: order of arrival, size of the batch dimension, time of arrival.
        self.ticket = 0
        self.rows = 0
        self.queued_at = 0.0

    def done(self, outcome: Outcome) -> None:
        """Deliver the outcome to whoever submitted the job."""
        self._done(outcome)


class Batch:
    """Jobs that run together, with their outcomes after the run. It is what a thread takes and hands back."""

    __slots__ = ("cpu_seconds", "jobs", "outcomes", "seconds", "started_at", "stop")

    def __init__(self, jobs: list[Job], started_at: float, stop: Stop | None) -> None:
        self.jobs = jobs
        self.started_at = started_at
        self.stop = stop
        self.outcomes: Sequence[Outcome] = ()
        #: Wall-clock time, and the thread's CPU time, which excludes waiting for the interpreter's lock.
        self.seconds = 0.0
        self.cpu_seconds = 0.0
