"""
The first runs of a model, before a client asks for one: they bind buffers, start a thread and show how long runs take.

Theory of operation. A model that has just been stored in this process is run on small made-up inputs, in a thread of
its device, while the store is still being written. Nothing waits for it. It isn't counted, it has a part of the device
to itself, and what it says of the model is only how long a run takes.

Only models of this process are run, after they have passed their probation (`execution/hosts/probation.py`), where the
same run has hurt nobody. In a host, a run can only be stopped together with the host.

Invariant: whatever the model tells of its inputs, warming up takes little memory and, unless one operator alone takes
longer, `_LONGEST_SECONDS`. Its failure is nobody's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import monotonic, thread_time
from typing import Any

from redisai_engine.backends.base import Array, LoadedModel, Outputs, Stop
from redisai_engine.execution.figures import OWN
from redisai_engine.execution.job import Job, Outcome, RunnableModel
from redisai_engine.service.engine import Engine

_log = logging.getLogger(__name__)

#: Of a model. The first run of a larger one takes so long anyway that little is gained, and its memory stays a while.
MOST_BYTES = 256 * 1024

#: Buffers are bound by the second run (`backends/onnx_bindings.py`). The third shows how long runs take from then on.
_RUNS = 3

#: Models that take longer than this gain nothing from a further run.
_ENOUGH_SECONDS = 0.010

#: How long warming up may take, waiting included.
_LONGEST_SECONDS = 0.1


def warm_up(engine: Engine, model: RunnableModel) -> None:
    """Submit the first runs of a model that was just loaded, if they are safe and can be made up. Never fail."""
    loaded = model.loaded
    if loaded.is_elsewhere or engine.placement.probation(model.backend_name) is None:
        return
    try:
        inputs = loaded.example()
        if inputs is not None:
            _submit(engine, model, inputs)
    except Exception:  # a bug of ours must not keep a model from being stored
        _log.exception("a model of %s can't be warmed up because of a bug in the engine", model.backend_name)


def _submit(engine: Engine, model: RunnableModel, inputs: list[Array]) -> None:
    runs = _Runs(model)
    own = RunnableModel(runs, backend_name=model.backend_name, device=model.device)

    def done(_outcome: Outcome) -> None:
        timer.cancel()
        runs.tell(job.form)

    job = Job(own, inputs, monotonic() + _LONGEST_SECONDS, done, front=OWN)
    timer = engine.loop.call_later(_LONGEST_SECONDS, runs.stop)
    engine.executor.submit(job)


class _Runs(LoadedModel):
    """
    Several runs of a model as one.

    A thread may know its latest run for a long time, which must not keep the model in memory: `tell` lets go of it.
    """

    def __init__(self, model: RunnableModel) -> None:
        self.inputs = model.loaded.inputs
        self.outputs = model.loaded.outputs
        self.takes_text = model.takes_text
        self._seconds: float | None = None  # that the shortest run after the first has taken
        self._model: RunnableModel | None = model
        self._stop: Stop | None = None
        self._is_over = False

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        assert self._model is not None
        loaded = self._model.loaded
        began = monotonic()
        for number in range(_RUNS):
            used = thread_time()
            loaded.rehearse(arrays, stop)
            used = thread_time() - used
            if number:
                self._seconds = min(used, self._seconds or used)
            if self._is_over or monotonic() - began > _ENOUGH_SECONDS:
                break
        return []

    def tell(self, form: Any) -> None:
        """Tell the model how long its runs on inputs of this form take."""
        model, self._model = self._model, None
        if model is None:
            return
        model.loop_stop = model.loop_stop or model.loaded.new_stop()
        if self._seconds is not None:
            model.measured(form, self._seconds)

    def new_stop(self) -> Stop | None:
        assert self._model is not None
        self._stop = self._model.loaded.new_stop()
        if self._is_over:
            self.stop()
        return self._stop

    def stop(self) -> None:
        """End the run that is under way, and allow no other."""
        self._is_over = True
        if self._stop is not None:
            self._stop.terminate = True
