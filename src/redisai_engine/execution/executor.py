"""
Runs the jobs of all devices: short ones in the event loop's run phase, all others in threads.

Theory of operation: during a turn of the event loop the server submits jobs; nothing runs yet. At the end of the turn
it calls `run_turn`, which goes through the queues. While a queue's next run is known to be short and a thread of that
device is free, it is done right there; what isn't short is left to the threads. Finished runs of the threads come back
in one callback for all that finished meanwhile. No task, no future and no copy is made for a request.

Invariant: every submitted job gets exactly one outcome, in the event loop's thread, never from within `submit`.
All methods belong to the event loop's thread but `_finished`, which threads call.
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

#: How long one turn may run models before the event loop looks after its connections again.
_TURN_SECONDS = 0.010

#: Of the runs in the event loop so few are measured, beside those that turn out to be long: it costs a tenth of one.
_MEASURED_ONE_IN = 8


class Executor:
    """
    The queues and threads of all devices.

    `execution_timeout_ms` limits a run in a thread, where the framework can stop one; 0 is no limit.
    `queue_limit` is how many jobs may wait for one device.
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
        self._results: deque[Batch] = deque()
        self._result_announced = False
        self._pending = 0
        self._queues_wait = False
        self._in_turn = False
        self._closing = False
        self._drained: asyncio.Future[None] | None = None

    def submit(self, job: Job) -> None:
        """Takes a job for the end of this turn. Never blocks, never runs it, never calls `done`."""
        self._pending += 1
        self._submitted.append(job)

    def run_turn(self) -> None:
        """Runs what is short and hands on the rest; called at the end of a turn, after all its submits."""
        if self._in_turn or not (self._submitted or self._queues_wait):
            return  # called from a job's `done`: the loop below sees to what that submitted
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
            # Time is up. Connections come first, then the rest.
            self._loop.call_soon(self.run_turn)

    @property
    def is_running(self) -> bool:
        """Tells whether jobs wait or run in threads."""
        return self._pending > 0

    def queue_sizes(self) -> dict[str, int]:
        """Gives how many jobs wait for each device."""
        return {device: queue.size for device, queue in self._queues.items()}

    def thread_cpu_seconds(self) -> dict[str, list[float]]:
        """Gives the processor time that each thread spent in models, by device."""
        return {device: [thread.cpu_seconds for thread in threads] for device, threads in self._threads.items()}

    async def drain(self) -> None:
        """Takes no more jobs, and returns when all that are here have their outcome."""
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
        """Stops what runs, refuses what waits, and ends the threads. Call `drain` before to let the work finish."""
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
        """Runs a short job whose device is free at once; queues every other."""
        now = monotonic()
        model, elements = None, -1  # of the jobs that are run here: mostly one is as the one before
        for job in jobs:
            if job.model is not model or job.elements != elements:
                model, elements = (job.model, job.elements) if self._may_run_here(job) else (None, -1)
            if model is not None and now < until and (job.deadline is None or now < job.deadline):
                now = self._run_here(model, job, now)
            else:
                model, elements = None, -1  # what is queued comes before later jobs
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
        """Runs what is short until something isn't, and leaves that to the threads; False if time is up before."""
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
        """Runs one job in this thread, which is the event loop's; gives the time after."""
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
        """Runs a batch in this thread; gives the time after."""
        batch = Batch(jobs, started_at, None)
        batch.outcomes = run_jobs(jobs)
        now = monotonic()
        batch.seconds = batch.cpu_seconds = now - started_at
        self._answer(batch)
        return now

    def _wait_on(self, queue: DeviceQueue, *, needs_thread: bool) -> None:
        """Sees to it that what is left in a queue goes on: by its threads, or when its time comes."""
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
        """A deadline or MINBATCHTIMEOUT is over."""
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
        """Takes a finished run from a thread, and announces it unless the announcement is on its way."""
        self._results.append(batch)
        # `_take_results` lowers the flag before it looks, so a run that comes while it is up is never overlooked.
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
        """Stops the runs that take longer than allowed; looks again when the next one may."""
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
        """Counts a run and gives its jobs their outcomes."""
        model = batch.jobs[0].model if batch.jobs else None
        if model is not None and batch.cpu_seconds:
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
        except Exception as error:  # one caller's fault must not cost the others their answers
            self._loop.call_exception_handler({"message": "a job's done() failed", "exception": error})
            self._fail(job)
        if self._drained is not None and not self._pending and not self._drained.done():
            self._drained.set_result(None)

    @staticmethod
    def _fail(job: Job) -> None:
        """Give a job that couldn't take its outcome an error, which is easier to take."""
        with contextlib.suppress(Exception):
            job.done(EngineError(texts.ENGINE_FAILED))


def _count(model: RunnableModel, outcome: Outcome, seconds: float) -> None:
    """Adds a run to the model's figures."""
    if isinstance(outcome, list):
        model.statistics.succeeded(int(seconds * 1e6), _samples(outcome))
    else:
        model.statistics.failed()


def _samples(outputs: Outputs) -> int:
    """Gives the first dimension of the first output; 1 for a scalar, 0 where it isn't a tensor."""
    first = outputs[0] if outputs else None
    if first is None:
        return 0
    return first.shape[0] if first.ndim else 1


def _refused(jobs: list[Job]) -> Batch:
    """Makes the result of jobs that come too late."""
    batch = Batch(jobs, 0.0, None)
    batch.outcomes = [EngineClosing()] * len(jobs)
    return batch


def _terminate(batch: Batch) -> None:
    if batch.stop is not None:
        batch.stop.terminate = True
