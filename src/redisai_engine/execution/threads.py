"""
The threads that run what takes too long for the event loop.

A thread takes the next batch from its queue when it is free, so a batch forms as late as possible. It leaves short runs
to the event loop, which needs no hand-off for them. A crew has as many threads as there are runs at the same time: one
is started when a run may begin and no thread is free, and ends when it has had nothing to do for a while.

Invariant: a thread touches nothing of the event loop. It passes finished runs to `finished`, which may be called in any
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic, thread_time

from redisai_engine.errors import EngineError
from redisai_engine.execution.batching import run_jobs
from redisai_engine.execution.device_queue import DeviceQueue
from redisai_engine.execution.job import TIMED_OUT, Batch, Job, TimedOut

#: How long a thread waits for work before it ends.
_IDLE_SECONDS = 10.0


class Crew:
    """The threads of a device's queue. `finished` gets each batch after its run."""

    def __init__(
        self, queue: DeviceQueue, finished: Callable[[Batch], None], *, idle_seconds: float = _IDLE_SECONDS
    ) -> None:
        #: What each thread has used, by its number. A thread takes the lowest number that no other has.
        self.cpu_seconds: list[float] = []
        self._queue = queue
        self._finished = finished
        self._idle_seconds = idle_seconds
        self._idle = 0  # threads that wait for work
        self._threads: dict[int, threading.Thread] = {}
        self._closing = False

    def staff(self) -> None:
        """See to it that a thread takes the next run, if there is one. The caller holds the queue's lock."""
        if self._closing or self._queue.next_long() is None:
            return
        if self._idle:
            self._queue.work.notify()
        else:
            self._start()

    def close(self, patience: float) -> bool:
        """End the threads after their current runs. Return False if one still runs after `patience` seconds."""
        with self._queue.lock:
            self._closing = True
            self._queue.work.notify_all()
            threads = list(self._threads.values())
        until = monotonic() + patience
        for thread in threads:
            thread.join(max(0.0, until - monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _start(self) -> None:
        number = next(number for number in range(len(self._threads) + 1) if number not in self._threads)
        if number == len(self.cpu_seconds):
            self.cpu_seconds.append(0.0)
        # `close` ends the thread. It is a daemon so that neither an engine that fails before `close` nor a run that
        # can't be stopped keeps the process alive.
        name = f"{self._queue.device}-{number + 1}"
        thread = threading.Thread(target=self._work, args=(number,), name=name, daemon=True)
        self._threads[number] = thread
        thread.start()

    def _work(self, number: int) -> None:
        while (batch := self._next_batch()) is not None:
            # CPU time decides whether a run is short: wall-clock time includes waiting for the interpreter's lock.
            cpu_started = thread_time()
            batch.outcomes = run_jobs(batch.jobs, batch.stop)
            batch.cpu_seconds = thread_time() - cpu_started
            batch.seconds = monotonic() - batch.started_at
            if _is_elsewhere(batch):
                batch.cpu_seconds = batch.seconds
            self.cpu_seconds[number] += batch.cpu_seconds
            with self._queue.lock:
                self._queue.end(batch)
            self._finished(batch)
            del batch  # an idle thread must not keep a model in memory
        with self._queue.lock:
            del self._threads[number]
            self.staff()  # work may have come after this thread had decided to end

    def _next_batch(self) -> Batch | None:
        """Wait for a batch that isn't left to the event loop. Return None when the thread has to end."""
        queue = self._queue
        is_wanted = True
        while True:
            with queue.lock:
                now = monotonic()
                expired = queue.sweep(now) if now >= queue.wake_at else []
                if not expired:
                    if self._closing:
                        return None
                    lanes = queue.next_long()
                    if lanes is not None:
                        batch = queue.begin(lanes, now)
                        self.staff()  # for the run after this one
                        return batch
                    if not is_wanted:
                        return None
                    self._idle += 1
                    is_wanted = queue.work.wait(self._idle_seconds)
                    self._idle -= 1
            if expired:  # outside the lock, which the event loop may be waiting for
                self._finished(answered(expired, TIMED_OUT))


def _is_elsewhere(batch: Batch) -> bool:
    model = batch.jobs[0].model
    return model is not None and model.loaded.is_elsewhere


def answered(jobs: list[Job], outcome: EngineError | TimedOut) -> Batch:
    """Return a batch that answers jobs without a run."""
    batch = Batch(jobs, 0.0, None)
    batch.outcomes = [outcome] * len(jobs)
    return batch
