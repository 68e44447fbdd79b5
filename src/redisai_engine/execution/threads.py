"""
What runs outside the event loop: in threads, as it takes too long for it, or on errands, in processes of models' own.

A thread takes the next batch from its queue when it is free, so a batch forms as late as possible. It leaves short runs
to the event loop, which needs no hand-off for them. A crew has as many threads as there are runs at the same time: one
is started when a run may begin and no thread is free, and ends when it has had nothing to do for a while.

A thread that waited for a process would have to be woken twice for each run. So the event loop itself begins errands,
and reads their answers when they arrive: one epoll has the sockets of all processes, and the event loop looks at it
when it becomes readable. A socket is armed for one answer at a time, so between two of them any thread may use it. (The
event loop's own way would make it non-blocking, which threads don't expect.) What the event loop would have to wait for
is left to further threads.

Invariant: a thread touches nothing of the event loop. It passes finished runs to `finished`, which may be called in any
thread. Each batch that was begun is finished once, unless `close` comes first.
"""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, thread_time

from redisai_engine.backends.base import Errand, Outputs
from redisai_engine.errors import EngineError, NoThread
from redisai_engine.execution.batching import failure, run_jobs
from redisai_engine.execution.device_queue import DeviceQueue
from redisai_engine.execution.job import TIMED_OUT, Batch, Job, TimedOut

#: How long a thread waits for work before it ends.
_IDLE_SECONDS = 10.0

#: How many threads wait for answers to errands.
_WAITING = 64


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
        """
        See to it that a thread takes the next run, if there is one. The caller holds the queue's lock.

        What nobody will take, because the system refuses a thread, is answered.
        """
        if self._closing or self._queue.next_long() is None:
            return
        if self._idle:
            self._queue.work.notify()
        elif not self._start() and len(self._threads) <= len(self._queue.stuck):  # others look again after their runs
            self._finished(answered(self._queue.clear(), NoThread()))

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

    def _start(self) -> bool:
        """Start a thread. Return False if the system refuses that."""
        number = next(number for number in range(len(self._threads) + 1) if number not in self._threads)
        if number == len(self.cpu_seconds):
            self.cpu_seconds.append(0.0)
        # `close` ends the thread. It is a daemon so that neither an engine that fails before `close` nor a run that
        # can't be stopped keeps the process alive.
        name = f"{self._queue.device}-{number + 1}"
        thread = threading.Thread(target=self._work, args=(number,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._threads[number] = thread
        return True

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


class Errands:
    """
    The errands of one event loop. Its methods must be called in that thread.

    `came` is called there with batches that have ended, `finished` in another thread with one.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, came: Callable[[list[Batch]], None], finished: Callable[[Batch], None]
    ) -> None:
        self._loop = loop
        self._came = came
        self._finished = finished
        self._under_way: dict[int, tuple[DeviceQueue, Batch, Errand]] = {}  # by descriptor
        self._arrivals = _Arrivals(loop, self._arrive) if hasattr(select, "epoll") else None
        self._threads: ThreadPoolExecutor | None = None

    @property
    def count(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    def begin(self, queue: DeviceQueue, now: float, pending: int) -> bool:
        """
        Begin the next run of a queue if it can be one. Return whether it has begun.

        `pending` requests wait or are being run, the one of this run included.
        """
        if self._arrivals is None or not self._arrivals.begin():
            return False
        with queue.lock:
            lanes = queue.next_long()
            lane = None if lanes is None else lanes.next_lane()
            if lanes is None or lane is None or lane.model is not None:  # whose jobs can be joined
                return False
            job = lane.jobs[0]
            errand = None if job.model is None else job.model.loaded.reserve(job.inputs)
            if errand is None:
                return False
            batch = queue.begin(lanes, now)
        try:
            descriptor = errand.begin(job.inputs, batch.stop, is_alone=pending == 1)
            self._under_way[descriptor] = queue, batch, errand
            self._arrivals.expect(descriptor)
        except Exception as error:  # a bug must not leave the client waiting
            _end(queue, batch, failure(error))
            self._finished(batch)
        return True

    def close(self) -> None:
        """Read no more answers."""
        if self._arrivals is not None:
            self._arrivals.close()
            self._arrivals = None
        self._under_way.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _arrive(self, descriptors: list[int]) -> None:
        ended = []
        for descriptor in descriptors:
            queue, batch, errand = self._under_way.pop(descriptor)
            outcome = _outcome(errand.answer)
            if outcome is None:
                self._leave(queue, batch, errand)
            else:
                _end(queue, batch, outcome)
                ended.append(batch)
        if ended:
            self._came(ended)

    def _leave(self, queue: DeviceQueue, batch: Batch, errand: Errand) -> None:
        """Leave an errand to a thread."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_WAITING, thread_name_prefix="errand")
        self._threads.submit(self._wait, queue, batch, errand)

    def _wait(self, queue: DeviceQueue, batch: Batch, errand: Errand) -> None:
        outcome = _outcome(errand.wait)
        _end(queue, batch, [] if outcome is None else outcome)
        self._finished(batch)


class _Arrivals:
    """Calls `arrive` in the event loop with the descriptors that something is expected at, once each, when it comes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, arrive: Callable[[list[int]], None]) -> None:
        self._loop = loop
        self._arrive = arrive
        self._epoll: select.epoll | None = None

    def begin(self) -> bool:
        """Return whether anything can be expected: the system may refuse the one descriptor that takes."""
        if self._epoll is None:
            try:
                self._epoll = select.epoll()
            except OSError:
                return False
            self._loop.add_reader(self._epoll.fileno(), self._look, self._epoll)
        return True

    def expect(self, descriptor: int) -> None:
        assert self._epoll is not None
        events = select.EPOLLIN | select.EPOLLONESHOT
        try:
            self._epoll.modify(descriptor, events)
        except FileNotFoundError:  # its first time; a socket that is closed leaves by itself
            self._epoll.register(descriptor, events)

    def close(self) -> None:
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _look(self, epoll: select.epoll) -> None:
        self._arrive([descriptor for descriptor, _ in epoll.poll(0)])


def _outcome(answer: Callable[[], Outputs | None]) -> Outputs | EngineError | None:
    try:
        return answer()
    except Exception as error:
        return failure(error)


def _end(queue: DeviceQueue, batch: Batch, outcome: Outputs | EngineError) -> None:
    batch.outcomes = [outcome]
    batch.seconds = batch.cpu_seconds = monotonic() - batch.started_at
    with queue.lock:
        queue.end(batch)
