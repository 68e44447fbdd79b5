"""
The requests that wait for one device, and which of them run next.

Theory of operation: jobs stand in lanes. All that run alone share one lane; jobs that may join share a lane for each
batch key. A lane is ready when its first job may run. The next to run is the ready lane whose first job came first, so
the order is first come first served, but for requests that still wait for MINBATCHSIZE, which let others pass.
`wake_at` is the earliest moment at which time alone could change anything (a TIMEOUT, a MINBATCHTIMEOUT); it may be
too early, never too late. Callers sweep when it is reached.

Invariant: `_ready` holds exactly the lanes that are ready. No clock, no thread: callers hold `lock` and tell the time.
"""

from __future__ import annotations

import threading
from collections import deque
from heapq import heappop, heappush
from math import inf

from redisai_engine.execution.batching import BatchKey, batch_key, enough, is_full
from redisai_engine.execution.job import Batch, Job, RunnableModel


class Lane:
    """Jobs that run one at a time (`model` None), or that may be joined."""

    __slots__ = ("is_ready", "jobs", "key", "model", "rows")

    def __init__(self, key: BatchKey | None, model: RunnableModel | None) -> None:
        self.key = key
        self.model = model
        self.jobs: deque[Job] = deque()
        self.rows = 0
        self.is_ready = False

    def ready_at(self) -> float:
        """Gives when the first job may run: -inf for now, inf for not before others join."""
        model = self.model
        if model is None or enough(model, self.jobs[0].rows, self.rows):
            return -inf
        wait_ms = model.min_batch_timeout_ms
        return self.jobs[0].queued_at + wait_ms / 1000 if wait_ms else inf

    def batch_length(self) -> int:
        """Counts the first jobs that run together."""
        if self.model is None:
            return 1
        rows = 0
        for length, job in enumerate(self.jobs, 1):
            # A first job that fills the batch by itself runs alone, whatever MINBATCHSIZE says.
            rows += job.rows
            if is_full(self.model, rows) or (length == 1 and rows >= self.model.batch_size):
                return length
        return len(self.jobs)

    def is_short(self) -> bool:
        """Tells whether the next run is known to be shorter than a thread hand-over."""
        first = self.jobs[0].model
        if first is None:
            return True
        if self.model is None:
            return first.is_short(self.jobs[0].elements)
        batch = self.batch_length()
        return first.is_short(sum(self.jobs[i].elements for i in range(batch)))


class DeviceQueue:
    """All that waits for one device. `running` has what its threads run right now."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.lock = threading.Lock()
        #: Workers wait on it, with `lock`.
        self.work = threading.Condition(self.lock)
        self.size = 0
        self.wake_at = inf
        self.running: list[Batch] = []
        #: Set when the engine drains: batches no longer wait to fill up.
        self.in_haste = False
        self._next_ticket = 0
        self._alone = Lane(None, None)
        self._lanes: dict[BatchKey, Lane] = {}
        self._ready: list[tuple[int, Lane]] = []

    def put(self, job: Job, now: float) -> None:
        """Queues a job."""
        self._next_ticket += 1
        job.ticket = self._next_ticket
        job.queued_at = now
        lane = self._lane_for(job)
        lane.jobs.append(job)
        lane.rows += job.rows
        self.size += 1
        if job.deadline is not None and job.deadline < self.wake_at:
            self.wake_at = job.deadline
        if not lane.is_ready:
            self._place(lane, now)

    def next_lane(self) -> Lane | None:
        """Gives the lane whose first jobs run next."""
        return self._ready[0][1] if self._ready else None

    def take(self, now: float) -> list[Job]:
        """Removes the jobs that run next, together. There must be a next lane."""
        lane = heappop(self._ready)[1]
        lane.is_ready = False
        jobs = [lane.jobs.popleft() for _ in range(lane.batch_length())]
        self.size -= len(jobs)
        if lane.model is not None:
            lane.rows -= sum(job.rows for job in jobs)
        self._tidy(lane, now)
        return jobs

    def sweep(self, now: float) -> list[Job]:
        """Removes and gives the jobs whose deadline is over, and readies the lanes whose time has come."""
        expired: list[Job] = []
        self._ready.clear()
        self.wake_at = inf
        for lane in [self._alone, *self._lanes.values()]:
            lane.is_ready = False
            expired += self._expire(lane, now)
            self._tidy(lane, now)
        return expired

    def clear(self) -> list[Job]:
        """Removes and gives all jobs."""
        jobs = [job for lane in (self._alone, *self._lanes.values()) for job in lane.jobs]
        self._alone.jobs.clear()
        self._lanes.clear()
        self._ready.clear()
        self._alone.is_ready = False
        self.size = 0
        self.wake_at = inf
        return jobs

    def _lane_for(self, job: Job) -> Lane:
        model = job.model
        if model is None:
            return self._alone
        key = batch_key(model, job.inputs) if model.batch_size else None
        if key is None:
            return self._alone
        job.rows = job.inputs[0].shape[0]
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, model)
        return lane

    def _place(self, lane: Lane, now: float) -> None:
        """Puts a lane that has jobs among the ready ones, or notes when to look again."""
        ready_at = -inf if self.in_haste else lane.ready_at()
        if ready_at <= now:
            lane.is_ready = True
            heappush(self._ready, (lane.jobs[0].ticket, lane))
        elif ready_at < self.wake_at:
            self.wake_at = ready_at

    def _tidy(self, lane: Lane, now: float) -> None:
        """Puts a lane in its place after jobs were removed."""
        if lane.jobs:
            self._place(lane, now)
        elif lane.key is not None:
            del self._lanes[lane.key]

    def _expire(self, lane: Lane, now: float) -> list[Job]:
        """Removes the expired jobs of a lane, and brings `wake_at` down to the next deadline."""
        expired: list[Job] = []
        kept: deque[Job] = deque()
        for job in lane.jobs:
            if job.deadline is not None and job.deadline <= now:
                expired.append(job)
                continue
            kept.append(job)
            if job.deadline is not None and job.deadline < self.wake_at:
                self.wake_at = job.deadline
        lane.jobs = kept
        lane.rows -= sum(job.rows for job in expired)
        self.size -= len(expired)
        return expired
