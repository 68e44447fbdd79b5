"""
The executor, which runs the jobs of all devices: short ones in the event loop's run phase, all others in threads.

Theory of operation. During a turn of the event loop, commands submit jobs; nothing runs yet. At the end of the turn
`run_turn` goes through the queues. As long as a queue's next run is known to be short and a thread of its device would
be free, the run takes place right there, which saves the hand-off. Other runs are left to the threads. Runs that finish
in threads come back in one callback for all that finished in the meantime. No task, future or copy is made per request.

Invariant: every submitted job gets exactly one outcome, in the event loop's thread and never from within `submit`. All
methods must be called in the event loop's thread, except `_finished`, which the threads call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from time import monotonic

from redisai_engine.backends.base import Outputs
from redisai_engine.errors import EngineClosing, EngineError, QueueFull
from redisai_engine.execution.batching import failure, run_jobs
from redisai_engine.execution.device_queue import DeviceQueue
from redisai_engine.execution.job import SHORT_RUN_SECONDS, Batch, Job, Outcome, RunnableModel
from redisai_engine.execution.threads import QueueThread, timed_out
from redisai_engine.protocol import texts

#: How long one turn may run models before the event loop serves its connections again.
_TURN_SECONDS = 0.010

#: Of the runs in the event loop, one in this many is measured, in addition to those that turn out to be long. Measuring
#: costs a tenth of a run.
_MEASURED_ONE_IN = 8


class Executor:
    """
    The queues and threads of all devices.

    `execution_timeout_ms` limits a run in a thread if the framework can stop one; 0 means no limit. `queue_limit` is
    how many jobs may wait for one device.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        threads_per_queue: int = 1,
        queue_limit: int = 10_000,
        execution_timeout_ms: int = 5000,
    ) -> None:
        self._loop = loop
        self._threads_per_queue = threads_per_queue
        self._queue_limit = queue_limit
        self._run_limit = execution_timeout_ms / 1000
        self._queues: dict[str, DeviceQueue] = {}
        self._threads: dict[str, list[QueueThread]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._stop_timer: asyncio.TimerHandle | None = None
        self._submitted: list[Job] = []
        self._results: deque[Batch] = deque()  # finished runs of the threads, which append without a lock
        self._result_announced = False
        self._pending = 0  # submitted jobs without an outcome
        self._queues_wait = False  # a queue may have something to run in this or the next turn
        self._in_turn = False
        self._closing = False
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

    def queue_sizes(self) -> dict[str, int]:
        """Return how many jobs wait for each device."""
        return {device: queue.size for device, queue in self._queues.items()}

    def thread_cpu_seconds(self) -> dict[str, list[float]]:
        """Return the CPU time in seconds that each thread has spent in models, by device."""
        return {device: [thread.cpu_seconds for thread in threads] for device, threads in self._threads.items()}

    async def drain(self) -> None:
        """Refuse new jobs, and return when all submitted ones have their outcome."""
        self._closing = True
        for queue in self._queues.values():
            with queue.lock:
                queue.in_haste = True
                expired = queue.sweep(monotonic())
            self._answer(timed_out(expired))
        if not self._pending:
            return
        self._drained = self._loop.create_future()
        self._queues_wait = True
        self.run_turn()
        await self._drained

    def close(self) -> None:
        """Stop running jobs, refuse waiting ones and end the threads. To let the work finish, call `drain` first."""
        self._closing = True
        for queue in self._queues.values():
            with queue.lock:
                waiting, running = queue.clear(), list(queue.running)
            for batch in running:
                _terminate(batch)
            self._answer(_refused(waiting))
        for thread in [thread for threads in self._threads.values() for thread in threads]:
            thread.close()
        for timer in [*self._timers.values(), *([self._stop_timer] if self._stop_timer else [])]:
            timer.cancel()
        self._answer(_refused(self._submitted))
        self._submitted = []
        self._take_results()

    # -- the run phase

    def _run_or_queue(self, jobs: list[Job], until: float) -> None:
        """Run each short job whose device is idle at once, and queue every other."""
        now = monotonic()
        # Model and size of the jobs that may run here. A job usually resembles the previous one, and then need not be
        # checked again.
        model, elements = None, -1
        for job in jobs:
            if job.model is not model or job.elements != elements:
                model, elements = (job.model, job.elements) if self._may_run_here(job) else (None, -1)
            if model is not None and now < until and (job.deadline is None or now < job.deadline):
                now = self._run_here(model, job, now)
            else:
                model, elements = None, -1  # a later job must not overtake the queued one
                self._queue(self._queue_of(job), job, now)

    def _may_run_here(self, job: Job) -> bool:
        model, queue = job.model, self._queue_of(job)
        return (
            model is not None
            and not model.batch_size
            and not queue.size
            and not queue.running
            and model.is_short(job.elements)
            and not self._closing
        )

    def _queue(self, queue: DeviceQueue, job: Job, now: float) -> None:
        if self._closing:
            self._done(job, EngineClosing())
        elif queue.size >= self._queue_limit:
            self._done(job, QueueFull(job.device, self._queue_limit))
        else:
            self._queues_wait = True
            with queue.lock:
                queue.put(job, now)

    def _run_queues(self, until: float) -> None:
        self._queues_wait = False
        for queue in list(self._queues.values()):
            if queue.size and not self._run_queue(queue, until):
                self._queues_wait = True

    def _run_queue(self, queue: DeviceQueue, until: float) -> bool:
        """Run a queue's short jobs up to the first long one, which is for the threads. Return False if time is up."""
        now = monotonic()
        while True:
            jobs: list[Job] = []
            with queue.lock:
                expired = queue.sweep(now) if now >= queue.wake_at else []
                lane = queue.next_lane()
                if lane is not None and len(queue.running) < self._threads_per_queue and lane.is_short():
                    if now >= until:
                        return False
                    jobs = queue.take(now)
            self._answer(timed_out(expired))
            if not jobs:
                break
            now = self._run_together(jobs, now)
        if queue.size:
            self._wait_on(queue, needs_thread=lane is not None)
        return True

    def _run_here(self, model: RunnableModel, job: Job, started_at: float) -> float:
        """Run one job in this thread, which is the event loop's. Return the time after it."""
        try:
            outcome: Outcome = model.loaded.run(job.inputs)
        except Exception as error:
            outcome = failure(error)
        now = monotonic()
        if type(outcome) is list:
            seconds = now - started_at
            if seconds > SHORT_RUN_SECONDS or not model.statistics.calls % _MEASURED_ONE_IN:
                model.measured(job.elements, seconds)
            model.statistics.succeeded(int(seconds * 1e6), _samples(outcome))
        else:
            model.statistics.failed()
        self._done(job, outcome)
        return now

    def _run_together(self, jobs: list[Job], started_at: float) -> float:
        """Run a batch in this thread. Return the time after it."""
        batch = Batch(jobs, started_at, None)
        batch.outcomes = run_jobs(jobs)
        now = monotonic()
        batch.seconds = batch.cpu_seconds = now - started_at
        self._answer(batch)
        return now

    def _wait_on(self, queue: DeviceQueue, *, needs_thread: bool) -> None:
        """Make sure that a queue's remaining jobs proceed: in its threads, or when their time comes."""
        if needs_thread:
            self._start_threads(queue)
            with queue.lock:
                queue.work.notify()
            if self._stop_timer is None and self._run_limit:
                self._stop_timer = self._loop.call_later(self._run_limit, self._stop_long_runs)
        timer = self._timers.get(queue.device)
        if queue.wake_at == float("inf") or (timer is not None and timer.when() <= queue.wake_at):
            return
        if timer is not None:
            timer.cancel()
        self._timers[queue.device] = self._loop.call_at(queue.wake_at, self._wake, queue.device)

    def _wake(self, device: str) -> None:
        """Run a device's queue again because a deadline or a MINBATCHTIMEOUT has passed."""
        del self._timers[device]
        self._queues_wait = True
        self.run_turn()

    # -- threads

    def _queue_of(self, job: Job) -> DeviceQueue:
        queue = self._queues.get(job.device)
        if queue is None:
            queue = self._queues[job.device] = DeviceQueue(job.device)
        return queue

    def _start_threads(self, queue: DeviceQueue) -> None:
        if queue.device not in self._threads:
            numbers = range(1, self._threads_per_queue + 1)
            self._threads[queue.device] = [QueueThread(queue, number, self._finished) for number in numbers]

    def _finished(self, batch: Batch) -> None:
        """Take a finished run from a thread, and announce it to the event loop unless that is already under way."""
        self._results.append(batch)
        # `_take_results` clears the flag before it looks, so a run that is appended while the flag is set isn't missed.
        if not self._result_announced:
            self._result_announced = True
            self._loop.call_soon_threadsafe(self._results_came)

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
        batches = [batch for queue in self._queues.values() for batch in list(queue.running)]
        for batch in batches:
            if now >= batch.started_at + self._run_limit:
                _terminate(batch)
        self._stop_timer = None
        if batches or any(self.queue_sizes().values()):
            started = [batch.started_at for batch in batches if batch.started_at + self._run_limit > now]
            oldest = min(started, default=now)
            self._stop_timer = self._loop.call_at(oldest + self._run_limit, self._stop_long_runs)

    # -- outcomes

    def _answer(self, batch: Batch) -> None:
        """Record a run's statistics and give its jobs their outcomes."""
        model = batch.jobs[0].model if batch.jobs else None
        if model is not None and batch.cpu_seconds:  # zero for jobs that didn't run: timed out, or refused
            for outcome in batch.outcomes:
                _count(model, outcome, batch.seconds)
            # A failure says nothing about how long a run takes.
            if all(isinstance(outcome, list) for outcome in batch.outcomes):
                model.measured(sum(job.elements for job in batch.jobs), batch.cpu_seconds)
        for job, outcome in zip(batch.jobs, batch.outcomes, strict=True):
            self._done(job, outcome)

    def _done(self, job: Job, outcome: Outcome) -> None:
        self._pending -= 1
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


def _count(model: RunnableModel, outcome: Outcome, seconds: float) -> None:
    """Add one request's run to the model's statistics."""
    if isinstance(outcome, list):
        model.statistics.succeeded(int(seconds * 1e6), _samples(outcome))
    else:
        model.statistics.failed()


def _samples(outputs: Outputs) -> int:
    """Return the first dimension of the first output: 1 for a scalar, 0 if it isn't a tensor."""
    first = outputs[0] if outputs else None
    if first is None:
        return 0
    return first.shape[0] if first.ndim else 1


def _refused(jobs: list[Job]) -> Batch:
    """Return a batch that answers jobs with EngineClosing."""
    batch = Batch(jobs, 0.0, None)
    batch.outcomes = [EngineClosing()] * len(jobs)
    return batch


def _terminate(batch: Batch) -> None:
    if batch.stop is not None:
        batch.stop.terminate = True
