"""
The threads that run what takes too long for the event loop.

A thread takes the next batch from its queue when it is free, so a batch forms as late as possible. It leaves short runs
to the event loop, which needs no hand-off for them.

Invariant: a thread touches nothing of the event loop. It passes finished runs to `finished`, which may be called in any
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic, thread_time

from redisai_engine.execution.batching import run_jobs
from redisai_engine.execution.device_queue import DeviceQueue
from redisai_engine.execution.job import TIMED_OUT, Batch, Job


class QueueThread:
    """One thread of a device's queue."""

    def __init__(self, queue: DeviceQueue, number: int, finished: Callable[[Batch], None]) -> None:
        self.cpu_seconds = 0.0
        self._queue = queue
        self._finished = finished
        self._closing = False
        # `close` ends the thread. It is a daemon so that an engine that fails before `close` doesn't hang.
        self._thread = threading.Thread(target=self._work, name=f"{queue.device}-{number}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread after its current run, and wait for it."""
        with self._queue.lock:
            self._closing = True
            self._queue.work.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            # CPU time decides whether a run is short: wall-clock time includes waiting for the interpreter's lock.
            cpu_started = thread_time()
            batch.outcomes = run_jobs(batch.jobs, batch.stop)
            batch.cpu_seconds = thread_time() - cpu_started
            batch.seconds = monotonic() - batch.started_at
            self.cpu_seconds += batch.cpu_seconds
            with self._queue.lock:
                self._queue.running.remove(batch)
            self._finished(batch)

    def _next_batch(self) -> Batch | None:
        """Wait for a batch that isn't left to the event loop. Return None when the thread has to end."""
        queue = self._queue
        while True:
            with queue.lock:
                now = monotonic()
                expired = queue.sweep(now) if now >= queue.wake_at else []
                if not expired:
                    if self._closing:
                        return None
                    lane = queue.next_lane()
                    if lane is not None and not lane.is_short():
                        return self._begin(queue.take(now), now)
                    queue.work.wait()
            if expired:  # outside the lock, which the event loop may be waiting for
                self._finished(timed_out(expired))

    def _begin(self, jobs: list[Job], now: float) -> Batch:
        model = jobs[0].model
        batch = Batch(jobs, now, model.loaded.new_stop() if model is not None else None)
        self._queue.running.append(batch)
        return batch


def timed_out(jobs: list[Job]) -> Batch:
    """Return a batch that answers jobs with TIMED_OUT."""
    batch = Batch(jobs, 0.0, None)
    batch.outcomes = [TIMED_OUT] * len(jobs)
    return batch
