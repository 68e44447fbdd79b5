"""
The data structures of execution: a model that can be run, a request to run it, and requests that run together.

Invariant: a job's `done` is called in the event loop's thread, exactly once unless it raises: then once more, with an
error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from time import monotonic
from typing import Any, Final, TypeAlias

from redisai_engine.backends.base import Array, LoadedModel, Outputs, Stop, parse_device
from redisai_engine.errors import EngineError
from redisai_engine.execution.figures import RESP, Figures
from redisai_engine.execution.statistics import RunStatistics

#: A run of up to this long costs less in the event loop than the hand-off to a thread and back.
SHORT_RUN_SECONDS = 200e-6

#: A run of up to this long is brief: others barely notice it.
BRIEF_RUN_SECONDS = 5e-3

#: A run of up to this long is quick: a deployment may have all threads for such runs, which end soon if others come.
QUICK_RUN_SECONDS = 20e-3

#: A run that was known as brief and takes longer than this shows that its model's runs can't be foreseen.
_SURPRISING_SECONDS = 50e-3

#: Forms per model whose run times are kept. Beyond it, learning starts again.
_MOST_FORMS = 1024

#: A machine that was suspended may cause one or two.
_MOST_OVERRUNS = 3

#: What a run is charged with before its time is known.
_UNKNOWN_SECONDS = 1e-3

#: The queue of models that run in processes of their own, as many at once as each of them has.
PYTHON_QUEUE = "PYTHON"

#: The weight of one measurement. Estimates fall fast, because a model's first run is slow and later ones are typical.
#: They rise slowly, because on a busy machine every other run may be interrupted.
_WEIGHT_DOWN, _WEIGHT_UP = 0.5, 0.05


class TimedOut(Enum):
    """The type of TIMED_OUT."""

    TIMED_OUT = "the request waited longer than its TIMEOUT"


TIMED_OUT: Final = TimedOut.TIMED_OUT

Outcome: TypeAlias = Outputs | EngineError | TimedOut


#: What a run's time depends on: the shape of its input, or of each input; for text also the order of its length.
Form: TypeAlias = tuple[Any, ...]


class Share:
    """
    One deployment's part in its device: jobs that wait, runs under way, and what it has had.

    `served` is in seconds, on the clock of the device's queue. `stuck` counts runs that were given up but go on.
    `at_once` is how many runs may be under way; 0: the queue decides. Streams that occupy a process between their runs
    are in `held`, which threads change.
    """

    __slots__ = ("at_once", "held", "is_surprising", "running", "served", "stuck", "waiting")

    def __init__(self, at_once: int = 0) -> None:
        self.at_once = at_once
        self.held: set[object] = set()
        self.waiting = 0
        self.running = 0
        self.stuck = 0
        self.served = 0.0
        self.is_surprising = False


class RunnableModel:
    """
    A stored model in memory, ready to run.

    A `batch_size` of 0 means no batching, a `min_batch_size` of 0 no waiting, a `min_batch_timeout_ms` of 0 waiting
    without limit. `memory` is what it takes in bytes. `joinable` becomes False when a joined run shows that outputs
    can't be split among the requests, `is_row_wise` True when one has shown that they can. `device` is that of its
    queue.
    """

    __slots__ = (
        "_seconds",
        "backend_name",
        "batch_size",
        "device",
        "figures",
        "is_row_wise",
        "joinable",
        "loaded",
        "loop_stop",
        "memory",
        "min_batch_size",
        "min_batch_timeout_ms",
        "overruns",
        "records",
        "share",
        "statistics",
        "takes_text",
        "view",
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
        figures: Figures | None = None,
        memory: int = 0,
        share: Share | None = None,
    ) -> None:
        self.loaded = loaded
        self.memory = memory
        self.backend_name = backend_name
        self.device = PYTHON_QUEUE if loaded.at_once else queue_device(device)
        self.batch_size = batch_size
        self.min_batch_size = min_batch_size
        self.min_batch_timeout_ms = min_batch_timeout_ms
        self.statistics = statistics or RunStatistics()
        #: Those of its version, once it is kept in memory.
        self.figures = figures or Figures()
        self.share = share or Share(loaded.at_once)
        self.joinable = True
        self.is_row_wise = False
        self.takes_text = loaded.takes_text
        #: The switch of its runs in the event loop, one after another.
        self.loop_stop: Stop | None = None
        self.overruns = 0
        #: What fronts keep of it: how V2 sees it, and what is recorded beside it, by database and key.
        self.view: Any = None
        self.records: dict[tuple[int, bytes], Any] = {}
        self._seconds: dict[Form, float] = {}  # estimated run times

    def is_short(self, form: Form) -> bool:
        """Return whether runs of this form are known to be shorter than a hand-off to a thread."""
        seconds = self._seconds.get(form)
        loaded = self.loaded
        return seconds is not None and seconds < SHORT_RUN_SECONDS and loaded.steady and _rows(form) <= loaded.loop_rows

    def is_brief(self, form: Form) -> bool:
        """Return whether runs of this form are known to take little time."""
        return self._seconds.get(form, 1.0) < BRIEF_RUN_SECONDS and not self.share.is_surprising

    def is_quick(self, form: Form) -> bool:
        """
        Return whether runs of this form are known to end soon, whatever the values of their inputs are.

        That isn't so for scripts and for models that loop, however little their earlier runs took.
        """
        seconds = self._seconds.get(form)
        return (
            seconds is not None and seconds < QUICK_RUN_SECONDS and self.loaded.steady and not self.share.is_surprising
        )

    def expected(self, form: Form) -> float:
        """Return how long a run of this form takes, in seconds, as far as is known."""
        return self._seconds.get(form, _UNKNOWN_SECONDS)

    def measured(self, form: Form, seconds: float) -> None:
        """Record how long a run of this form took."""
        known = self._seconds.get(form)
        if known is None:
            if len(self._seconds) >= _MOST_FORMS:
                self._seconds.clear()
            self._seconds[form] = seconds
            return
        if known < BRIEF_RUN_SECONDS and seconds > _SURPRISING_SECONDS:
            self.share.is_surprising = True
        if seconds < known:
            weight = _WEIGHT_DOWN
        else:
            # The cap keeps one run that the machine interrupted from outweighing many undisturbed ones.
            weight, seconds = _WEIGHT_UP, min(seconds, known + 4 * SHORT_RUN_SECONDS)
        self._seconds[form] = known + weight * (seconds - known)

    def overran(self, form: Form) -> None:
        """
        Record that a run in the event loop had to be stopped.

        The next runs of this form take place in a thread, and after some such events all runs of the model: it isn't as
        steady as its backend believes.
        """
        self.loop_stop = None
        self._seconds[form] = BRIEF_RUN_SECONDS
        self.overruns += 1
        if self.overruns >= _MOST_OVERRUNS:
            self.loaded.steady = False


def queue_device(device: str) -> str:
    """Return the device whose queue serves `device`, so that a device has one however it is spelled."""
    kind, number = parse_device(device)
    return f"{kind}:{number}" if number else kind


def form_of(inputs: Sequence[Array], *, with_text: bool) -> Form:
    """Return the form of a run on these inputs. `with_text`: some of them may be text."""
    if with_text:
        return tuple([(array.shape, _text_size(array)) for array in inputs])
    return inputs[0].shape if len(inputs) == 1 else tuple([array.shape for array in inputs])


def _rows(form: Form) -> int:
    """Return the first dimension of the first input that has one; of joined requests, that of all together."""
    first: Any = form
    while isinstance(first, tuple) and first:
        first = first[0]
    return first if isinstance(first, int) else 0


def _text_size(array: Array) -> int:
    """Return the bit length of the number of characters; 0 for numbers."""
    return sum(map(len, array.reshape(-1))).bit_length() if array.dtype.char == "O" else 0


class Job:
    """
    A request to run `model` on `inputs`. `deadline`, in the event loop's time, limits how long it may wait.

    For metrics: `taken_at` is the time of the turn in which the request was taken, and `front` where it came from. Once
    it has succeeded, `started_at` is when its run began.

    Without a model, the job only takes part in the turn.
    """

    __slots__ = (
        "_done",
        "deadline",
        "device",
        "form",
        "front",
        "inputs",
        "model",
        "queued_at",
        "rows",
        "started_at",
        "taken_at",
        "ticket",
    )

    def __init__(
        self,
        model: RunnableModel | None,
        inputs: list[Array],
        deadline: float | None,
        done: Callable[[Outcome], None],
        *,
        taken_at: float | None = None,
        front: int = RESP,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.deadline = deadline
        self._done = done
        self.taken_at = monotonic() if taken_at is None else taken_at
        self.front = front
        self.device = model.device if model is not None else "CPU"
        #: By which run times are estimated.
        self.form = form_of(inputs, with_text=model is not None and model.takes_text)
        # Set by the queue: order of arrival, size of the batch dimension, time of arrival.
        self.ticket = 0
        self.rows = 0
        self.queued_at = 0.0
        self.started_at = 0.0

    def done(self, outcome: Outcome) -> None:
        """Deliver the outcome to whoever submitted the job."""
        self._done(outcome)


class Batch:
    """Jobs that run together, with their outcomes after the run. It is what a thread takes and hands back."""

    __slots__ = (
        "charged",
        "cpu_seconds",
        "form",
        "is_stuck",
        "jobs",
        "outcomes",
        "seconds",
        "share",
        "started_at",
        "stop",
    )

    def __init__(self, jobs: list[Job], started_at: float, stop: Stop | None) -> None:
        self.jobs = jobs
        self.started_at = started_at
        self.stop = stop
        self.outcomes: Sequence[Outcome] = ()
        #: Wall-clock time, and the thread's CPU time, which excludes waiting for the interpreter's lock.
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        #: Its jobs have been answered already, because the run couldn't be stopped.
        self.is_stuck = False
        self.form = joined_form(jobs)
        #: Whose run it is, and the seconds that it was charged with at the start. Set by the queue.
        self.share = jobs[0].model.share if jobs and jobs[0].model is not None else Share()
        self.charged = 0.0


def joined_form(jobs: Sequence[Job]) -> Form:
    """Return the form of one run on the inputs of all these jobs: theirs, but for the number of rows."""
    if len(jobs) < 2:
        return jobs[0].form if jobs else ()
    first = jobs[0]
    if first.model is not None and first.model.takes_text:
        return tuple([job.form for job in jobs])
    rows = sum([job.rows for job in jobs])
    return (rows, *(first.form[1:] if len(first.inputs) == 1 else first.form))
