"""
The executor, which runs the jobs of all devices: short ones in the event loop's run phase, all others in threads.

Theory of operation. During a turn of the event loop, commands submit jobs; nothing runs yet. At the end of the turn
`run_turn` goes through the queues. Runs that are known to be short take place right there, which saves the hand-off.
Other runs are left to the threads. Runs that finish in threads come back in one callback for all that finished in the
meantime. No task, future or copy is made per request.

A run that takes longer than allowed is told to stop. If it doesn't, its jobs are answered, its thread is replaced, and
nothing more of that deployment is run until it ends.

Invariant: every submitted job gets exactly one outcome, in the event loop's thread and never from within `submit`. All
methods must be called in the event loop's thread, except `_finished`, which the threads call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from time import monotonic

from redisai_engine.backends.base import Outputs
from redisai_engine.errors import DeploymentStuck, EngineClosing, EngineError, QueueFull, RunGivenUp
from redisai_engine.execution.batching import failure, run_jobs
from redisai_engine.execution.device_queue import MOST_STUCK, DeviceQueue
from redisai_engine.execution.job import (
    PYTHON_QUEUE,
    SHORT_RUN_SECONDS,
    TIMED_OUT,
    Batch,
    Form,
    Job,
    Outcome,
    RunnableModel,
    Share,
)
from redisai_engine.execution.loop_watch import LONGEST_SECONDS, LoopWatch
from redisai_engine.execution.threads import Crew, Errands, answered
from redisai_engine.protocol import texts

_log = logging.getLogger(__name__)

#: How long one turn may run models before the event loop serves its connections again.
_TURN_SECONDS = 0.010

#: Of the runs in the event loop, one in this many is measured, in addition to those that turn out to be long. Measuring
#: costs a tenth of a run.
_MEASURED_ONE_IN = 8

#: How long a run that was told to stop may take to do so.
_GRACE_SECONDS = 0.5

#: How long `drain` waits for what runs and waits, and `close` for the threads.
_DRAIN_SECONDS = 10.0
_CLOSE_SECONDS = 2.0

#: Threads that wait for models in processes of their own, of all deployments together.
_PYTHON_THREADS = 64

# The time is kept beside the handle: that of uvloop has none if the time has come already.
_NO_TIMER: tuple[float, asyncio.Handle | None] = float("inf"), None


class Executor:
    """
    The queues and threads of all devices.

    `threads_per_queue` is how many runs a device takes at the same time, with few exceptions (`DeviceQueue`).
    `execution_timeout_ms` limits a run in a thread; 0 means no limit. `queue_limit` is how many jobs of one deployment
    may wait.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        threads_per_queue: int = 2,
        queue_limit: int = 10_000,
        execution_timeout_ms: int = 5000,
        loop_limit_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self._loop = loop
        self.threads_per_queue = threads_per_queue
        self._queue_limit = queue_limit
        self._limit_ms = execution_timeout_ms
        self._run_limit = execution_timeout_ms / 1000
        self._watch = LoopWatch(loop_limit_seconds)
        self._errands = Errands(loop, self._came, self._finished)
        self._queues: dict[str, DeviceQueue] = {}
        self._crews: dict[str, Crew] = {}
        self._timers: dict[str, tuple[float, asyncio.Handle]] = {}  # by device, each with its time
        self._stop_timer: asyncio.TimerHandle | None = None
        self._submitted: list[Job] = []
        self._results: deque[Batch] = deque()  # finished runs of the threads, which append without a lock
        self._result_announced = False
        self._pending = 0  # submitted jobs without an outcome
        self._queues_wait = False  # a queue may have something to run in this or the next turn
        self._in_turn = False
        self._closing = False
        self._closed = False
        self._drained: asyncio.Future[None] | None = None

    def submit(self, job: Job) -> None:
        """Take a job for the end of this turn. Never block, run the job or call `done`."""
        self._pending += 1
        self._submitted.append(job)

    def run_turn(self) -> None:
        """Run short jobs and leave the rest to the threads. Call it at the end of a turn, after all its submits."""
        if self._in_turn or not (self._submitted or self._queues_wait):
            return  # inside a turn, the caller is a job's `done`; the loop below takes what that has submitted
        self._in_turn = True
        try:
            until = monotonic() + _TURN_SECONDS
            while self._submitted or self._queues_wait:
                submitted, self._submitted = self._submitted, []
                self._run_or_queue(submitted, until)
                if self._queues_wait:
                    self._run_queues(until)
                if monotonic() >= until:
                    break
        finally:
            self._in_turn = False
        if self._submitted or self._queues_wait:
            # The turn's time is up. The event loop serves its connections first, then the rest of the jobs.
            self._loop.call_soon(self.run_turn)

    @property
    def is_running(self) -> bool:
        """Whether jobs are waiting or running in threads."""
        return self._pending > 0

    @property
    def waits_elsewhere(self) -> bool:
        """Whether all that is left is one run in a process of the model's own, for which no thread waits."""
        return self._pending == 1 and self._errands.count == 1

    def in_flight(self, share: Share) -> tuple[int, int]:
        """Return how many requests of a deployment wait, and how many are being run in threads."""
        running = 0
        for queue in self._queues.values():
            with queue.lock:
                running += sum([len(batch.jobs) for batch in queue.running if batch.share is share])
        return share.waiting, running

    def queue_sizes(self) -> dict[str, int]:
        """Return how many jobs wait for each device."""
        return {device: queue.size for device, queue in self._queues.items()}

    def thread_cpu_seconds(self) -> dict[str, list[float]]:
        """Return the CPU time in seconds that each thread has spent in models, by device."""
        unused = [0.0] * self.threads_per_queue
        return {device: crew.cpu_seconds + unused[len(crew.cpu_seconds) :] for device, crew in self._crews.items()}

    async def drain(self) -> None:
        """
        Refuse new jobs, and return when all submitted ones have their outcome.

        What is left after `_DRAIN_SECONDS` is left to `close`.
        """
        self._closing = True
        for queue in self._queues.values():
            with queue.lock:
                expired = queue.hurry(monotonic())
            self._answer(answered(expired, TIMED_OUT))
        if not self._pending:
            return
        self._drained = self._loop.create_future()
        self._queues_wait = True
        self.run_turn()
        await asyncio.wait([self._drained], timeout=_DRAIN_SECONDS)

    def close(self) -> None:
        """
        Stop running jobs, refuse waiting ones and end the threads. To let the work finish, call `drain` first.

        A thread whose run can't be stopped is left to itself.
        """
        self._closing = True
        for queue in self._queues.values():
            with queue.lock:
                waiting, running = queue.clear(), list(queue.running)
            for batch in running:
                _terminate(batch)
            self._answer(answered(waiting, EngineClosing()))
        self._watch.close()
        self._errands.close()
        for device, crew in self._crews.items():
            if not crew.close(_CLOSE_SECONDS) or self._queues[device].running:
                self._answer(answered(self._left_over(self._queues[device]), EngineClosing()))
        self._closed = True
        timers = [timer for _, timer in self._timers.values()]
        for timer in [*timers, *([self._stop_timer] if self._stop_timer else [])]:
            timer.cancel()
        self._answer(answered(self._submitted, EngineClosing()))
        self._submitted = []
        self._take_results()

    # -- the run phase

    def _run_or_queue(self, jobs: list[Job], until: float) -> None:
        """Run each short job whose device is idle at once, and queue every other."""
        now = monotonic()
        # Model and form of the jobs that may run here. A job usually resembles the previous one, and then need not be
        # checked again.
        model: RunnableModel | None = None
        form: Form | None = None
        for job in jobs:
            if job.model is not model or job.form != form:
                model, form = (job.model, job.form) if self._may_run_here(job, now) else (None, None)
            if model is not None and now < until and (job.deadline is None or now < job.deadline):
                now = self._run_here(model, job, now)
            else:
                model, form = None, None  # a later job must not overtake the queued one
                self._queue(job, now)

    def _may_run_here(self, job: Job, now: float) -> bool:
        model = job.model
        if model is None or model.batch_size or model.share.waiting or self._closing or not model.is_short(job.form):
            return False
        if not self._look_after(model):
            return False
        queue = self._queues.get(model.device)
        if queue is not None:  # those who run in threads there have to make room
            queue.saw(model.share, now)
        return True

    def _look_after(self, model: RunnableModel) -> bool:
        """Return whether the model's runs in the event loop can be stopped."""
        if model.loop_stop is None:
            model.loop_stop = model.loaded.new_stop()
        return self._watch.wake() if self._watch.is_asleep else True

    def _queue(self, job: Job, now: float) -> None:
        model = job.model
        if self._closing:
            self._done(job, EngineClosing())
        elif model is None:
            self._done(job, TIMED_OUT if job.deadline is not None and job.deadline <= now else [])
        elif model.share.stuck:
            self._done(job, DeploymentStuck(self._limit_ms))
        else:
            self._put(model, job, now)

    def _put(self, model: RunnableModel, job: Job, now: float) -> None:
        queue = self._queue_of(model)
        if queue.is_full(model.share):
            self._done(job, QueueFull(queue.device, model.share.waiting))
        else:
            self._queues_wait = True
            with queue.lock:
                queue.put(model, job, now)

    def _run_queues(self, until: float) -> None:
        self._queues_wait = False
        for queue in list(self._queues.values()):
            if queue.size and not self._run_queue(queue, until):
                self._queues_wait = True

    def _run_queue(self, queue: DeviceQueue, until: float) -> bool:
        """Run a queue's short jobs; the long ones are for the threads. Return False if time is up."""
        now = monotonic()
        while True:
            jobs: list[Job] = []
            with queue.lock:
                expired = queue.sweep(now) if now >= queue.wake_at else []
                lanes = queue.next_short()
                if lanes is not None:
                    if now >= until:
                        return False
                    jobs = queue.take(lanes, now)
            self._answer(answered(expired, TIMED_OUT))
            if not jobs:
                break
            now = self._run_together(jobs, now)
        while queue.size and queue.device == PYTHON_QUEUE and self._errands.begin(queue, now, self._pending):
            pass
        if queue.size or queue.running:
            self._wait_on(queue)
        return True

    def _run_here(self, model: RunnableModel, job: Job, started_at: float) -> float:
        """Run one job in this thread, which is the event loop's. Return the time after it."""
        watch = self._watch
        watch.since, watch.stop = started_at, model.loop_stop
        try:
            outcome: Outcome = model.loaded.run(job.inputs, model.loop_stop)
        except Exception as error:
            outcome = failure(error)
        watch.stop = None
        now = monotonic()
        if type(outcome) is list:
            seconds = now - started_at
            if seconds > SHORT_RUN_SECONDS or not model.statistics.calls % _MEASURED_ONE_IN:
                model.measured(job.form, seconds)
            rows = _samples(outcome)
            model.statistics.succeeded(int(seconds * 1e6), rows)
            figures = model.figures
            figures.ran(seconds, rows)
            figures.fronts[job.front].succeeded(now - job.taken_at, started_at - job.taken_at)
            job.started_at = started_at
        elif _was_stopped(model):
            model.overran(job.form)
            self._put(model, job, now)
            return now
        else:
            model.statistics.failed()
        self._done(job, outcome)
        return now

    def _run_together(self, jobs: list[Job], started_at: float) -> float:
        """Run a batch in this thread. Return the time after it."""
        model = jobs[0].model
        assert model is not None  # jobs without one aren't queued
        self._look_after(model)
        batch = Batch(jobs, started_at, model.loop_stop)
        self._watch.since, self._watch.stop = started_at, batch.stop
        batch.outcomes = run_jobs(jobs, batch.stop)
        self._watch.stop = None
        now = monotonic()
        if _was_stopped(model):
            model.overran(batch.form)
            for job in jobs:
                self._put(model, job, now)
            return now
        batch.seconds = batch.cpu_seconds = now - started_at
        self._answer(batch)
        return now

    def _wait_on(self, queue: DeviceQueue) -> None:
        """Make sure that a queue's remaining jobs proceed: in its threads, or when their time comes."""
        with queue.lock:
            self._crews[queue.device].staff()
        if self._stop_timer is None and self._run_limit:
            self._stop_timer = self._loop.call_later(self._run_limit, self._stop_long_runs)
        set_for, timer = self._timers.get(queue.device, _NO_TIMER)
        if queue.wake_at == float("inf") or set_for <= queue.wake_at:
            return
        if timer is not None:
            timer.cancel()
        self._timers[queue.device] = queue.wake_at, self._loop.call_at(queue.wake_at, self._wake, queue.device)

    def _wake(self, device: str) -> None:
        """Run a device's queue again because a deadline or a MINBATCHTIMEOUT has passed."""
        del self._timers[device]
        self._queues_wait = True
        self.run_turn()

    # -- threads

    def _queue_of(self, model: RunnableModel) -> DeviceQueue:
        queue = self._queues.get(model.device)
        if queue is None:
            threads = max(_PYTHON_THREADS, self.threads_per_queue) if model.loaded.at_once else self.threads_per_queue
            queue = self._queues[model.device] = DeviceQueue(model.device, threads=threads, limit=self._queue_limit)
            self._crews[model.device] = Crew(queue, self._finished)
        return queue

    def _finished(self, batch: Batch) -> None:
        """Take a finished run from a thread, and announce it to the event loop unless that is already under way."""
        if self._closed:  # the run had been given up, and the event loop may be gone
            return
        self._results.append(batch)
        # `_take_results` clears the flag before it looks, so a run that is appended while the flag is set isn't missed.
        if not self._result_announced:
            self._result_announced = True
            self._loop.call_soon_threadsafe(self._results_came)

    def _came(self, batches: list[Batch]) -> None:
        """Take finished runs in the event loop."""
        self._results.extend(batches)
        self._results_came()

    def _results_came(self) -> None:
        self._take_results()
        self._queues_wait = True
        self.run_turn()

    def _take_results(self) -> None:
        self._result_announced = False
        while self._results:
            self._answer(self._results.popleft())

    def _stop_long_runs(self) -> None:
        """Stop the runs that take longer than allowed, and schedule the next check for when another one may."""
        now = monotonic()
        next_check = now + self._run_limit
        is_busy = False
        for queue in self._queues.values():
            is_busy = is_busy or bool(queue.size)
            for batch in list(queue.running):
                is_busy = True
                if getattr(batch.stop, "waits", False):  # for a process that must be started, whose time is limited
                    batch.started_at = now
                limit = batch.started_at + self._run_limit
                if now >= limit:
                    _terminate(batch)
                    limit += _GRACE_SECONDS
                if now >= limit:
                    self._give_up(queue, batch)
                else:
                    next_check = min(next_check, limit)
        self._stop_timer = self._loop.call_at(next_check, self._stop_long_runs) if is_busy else None

    def _give_up(self, queue: DeviceQueue, batch: Batch) -> None:
        """Answer the jobs of a run that can't be stopped, and those that wait behind it."""
        with queue.lock:
            if batch not in queue.running:  # it has ended in between
                return
            waiting = queue.give_up(batch)
            self._crews[queue.device].staff()
        _log.warning(
            "a run on %s takes longer than %d ms and can't be stopped; it keeps a thread until it ends (%d of %d)",
            *(queue.device, self._limit_ms, len(queue.stuck), MOST_STUCK),
        )
        given_up = answered(batch.jobs, RunGivenUp(self._limit_ms))
        given_up.cpu_seconds = self._run_limit  # it counts as a run
        self._answer(given_up)
        self._answer(answered(waiting, DeploymentStuck(self._limit_ms)))

    @staticmethod
    def _left_over(queue: DeviceQueue) -> list[Job]:
        """Return the jobs of runs that go on although they were told to stop, as runs that were given up."""
        with queue.lock:
            batches = list(queue.running)
            for batch in batches:
                queue.give_up(batch)
        return [job for batch in batches for job in batch.jobs]

    # -- outcomes

    def _answer(self, batch: Batch) -> None:
        """Record a run's statistics and give its jobs their outcomes."""
        if batch.is_stuck:  # they have them
            _log.warning("a run that couldn't be stopped has ended after %.1f s", batch.seconds)
            return
        model = batch.jobs[0].model if batch.jobs else None
        if model is not None and batch.cpu_seconds:  # zero for jobs that didn't run: timed out, or refused
            _count(model, batch)
            # A failure says nothing about how long a run takes.
            if all(isinstance(outcome, list) for outcome in batch.outcomes):
                # What may run in the event loop is judged by processor time. Others may just wait, for a host.
                model.measured(batch.form, batch.cpu_seconds if model.loaded.steady else batch.seconds)
        for job, outcome in zip(batch.jobs, batch.outcomes, strict=True):
            self._done(job, outcome)

    def _done(self, job: Job, outcome: Outcome) -> None:
        self._pending -= 1
        if type(outcome) is not list and job.model is not None:
            job.model.figures.fronts[job.front].failed(outcome, monotonic() - job.taken_at)
        try:
            job.done(outcome)
        except Exception as error:  # a bug in one caller must not cost the others their outcomes
            self._loop.call_exception_handler({"message": "a job's done callback failed", "exception": error})
            self._fail(job)
        if self._drained is not None and not self._pending and not self._drained.done():
            self._drained.set_result(None)

    @staticmethod
    def _fail(job: Job) -> None:
        """Give an error to a job whose callback failed on the outcome, so that its client isn't left waiting."""
        with contextlib.suppress(Exception):
            job.done(EngineError(texts.ENGINE_FAILED))


def _count(model: RunnableModel, batch: Batch) -> None:
    """Add the requests of one run to the model's statistics and figures."""
    now, figures, rows = monotonic(), model.figures, 0
    for job, outcome in zip(batch.jobs, batch.outcomes, strict=True):
        if isinstance(outcome, list):
            own = _samples(outcome)
            rows += own
            model.statistics.succeeded(int(batch.seconds * 1e6), own)
            figures.fronts[job.front].succeeded(now - job.taken_at, batch.started_at - job.taken_at)
            job.started_at = batch.started_at
        else:
            model.statistics.failed()
    if any(isinstance(outcome, list) for outcome in batch.outcomes):
        figures.ran(batch.seconds, rows)


def _samples(outputs: Outputs) -> int:
    """Return the first dimension of the first output: 1 for a scalar, 0 if it isn't a tensor."""
    first = outputs[0] if outputs else None
    if first is None:
        return 0
    return first.shape[0] if first.ndim else 1


def _was_stopped(model: RunnableModel) -> bool:
    """Return whether the model's latest run in the event loop was stopped by the watch."""
    return model.loop_stop is not None and model.loop_stop.terminate


def _terminate(batch: Batch) -> None:
    if batch.stop is not None:
        batch.stop.terminate = True
