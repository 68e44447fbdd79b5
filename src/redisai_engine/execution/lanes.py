"""
The jobs of one deployment that wait, and which of them run next.

Theory of operation. Jobs wait in lanes. Jobs that run alone share one lane; jobs that can be joined share a lane per
batch key. A lane is ready when its first job may run. The next lane to run is the ready one whose first job arrived
first. So the order is first come, first served, except that jobs still waiting for MINBATCHSIZE let others pass.
`wake_at` is the earliest time at which the clock alone could change something (a TIMEOUT, a MINBATCHTIMEOUT). It may be
too early but never too late.

Nothing here has a clock, a thread or a lock: `device_queue.py` has.

Invariant: `_ready` holds exactly the lanes that are ready, and `share.waiting` is the number of jobs.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import islice
from math import inf

from redisai_engine.execution.batching import BatchKey, batch_key, enough, is_full
from redisai_engine.execution.job import Form, Job, RunnableModel, Share, joined_form


class Lane:
    """Jobs that run one at a time (if `model` is None), or jobs that can be joined."""

    __slots__ = ("is_ready", "jobs", "key", "model", "rows")

    def __init__(self, key: BatchKey | None, model: RunnableModel | None) -> None:
        self.key = key
        self.model = model
        self.jobs: deque[Job] = deque()
        self.rows = 0
        self.is_ready = False

    def ready_at(self) -> float:
        """Return the time at which the first job may run: -inf for now, inf for not before more jobs arrive."""
        model = self.model
        if model is None or enough(model, self.jobs[0].rows, self.rows):
            return -inf
        wait_ms = model.min_batch_timeout_ms
        return self.jobs[0].queued_at + wait_ms / 1000 if wait_ms else inf

    def batch_length(self) -> int:
        """Return how many jobs from the front of the lane run together."""
        if self.model is None:
            return 1
        rows = 0
        for length, job in enumerate(self.jobs, 1):
            # A first job that fills the batch alone doesn't wait for others, even if MINBATCHSIZE is larger.
            rows += job.rows
            if is_full(self.model, rows) or (length == 1 and rows >= self.model.batch_size):
                return length
        return len(self.jobs)

    def form(self) -> Form:
        """Return the form of the next run."""
        return self.jobs[0].form if self.model is None else joined_form(list(islice(self.jobs, self.batch_length())))

    def is_short(self) -> bool:
        """Return whether the next run is known to take less time than a hand-off to a thread."""
        return self._model().is_short(self.form())

    def is_brief(self) -> bool:
        """Return whether the next run is known to take little time."""
        return self._model().is_brief(self.form())

    def is_quick(self) -> bool:
        """Return whether the next run is known to end soon."""
        return self._model().is_quick(self.form())

    def expected(self) -> float:
        """Return how long the next run takes, in seconds, as far as is known."""
        return self._model().expected(self.form())

    def _model(self) -> RunnableModel:
        model = self.jobs[0].model
        assert model is not None  # jobs without one aren't queued
        return model


class Lanes:
    """The waiting jobs of the deployment that `share` belongs to."""

    def __init__(self, share: Share, *, in_haste: bool = False) -> None:
        self.share = share
        self.wake_at = inf
        #: Set when the engine drains: batches no longer wait to fill up.
        self.in_haste = in_haste
        self._alone = Lane(None, None)
        self._lanes: dict[BatchKey, Lane] = {}
        # A heap by the first job's ticket. Tickets are unique, so lanes are never compared.
        self._ready: list[tuple[int, Lane]] = []

    def put(self, job: Job, now: float) -> None:
        """Queue a job that has its ticket."""
        job.queued_at = now
        lane = self._lane_for(job)
        lane.jobs.append(job)
        lane.rows += job.rows
        self.share.waiting += 1
        if job.deadline is not None and job.deadline < self.wake_at:
            self.wake_at = job.deadline
        if not lane.is_ready:  # a ready lane keeps its place in the heap, because its first job is the same
            self._place(lane, now)

    def next_lane(self) -> Lane | None:
        """Return the lane whose first jobs run next, or None if no lane is ready."""
        return self._ready[0][1] if self._ready else None

    def is_short(self) -> bool:
        """Return whether a run may begin that is known to be short."""
        return bool(self._ready) and self._ready[0][1].is_short()

    def take(self, now: float) -> list[Job]:
        """Remove and return the jobs that run next, together. There must be a ready lane."""
        lane = heappop(self._ready)[1]
        lane.is_ready = False
        jobs = [lane.jobs.popleft() for _ in range(lane.batch_length())]
        self.share.waiting -= len(jobs)
        if lane.model is not None:
            lane.rows -= sum(job.rows for job in jobs)
        self._tidy(lane, now)
        return jobs

    def sweep(self, now: float) -> list[Job]:
        """Remove and return the jobs whose deadline has passed, and make the lanes ready whose time has come."""
        expired: list[Job] = []
        # Expired jobs may have been first in their lanes, so the heap is built again.
        self._ready.clear()
        self.wake_at = inf
        for lane in [self._alone, *self._lanes.values()]:
            lane.is_ready = False
            expired += self._expire(lane, now)
            self._tidy(lane, now)
        return expired

    def clear(self) -> list[Job]:
        """Remove and return all jobs."""
        jobs = [job for lane in (self._alone, *self._lanes.values()) for job in lane.jobs]
        self._alone.jobs.clear()
        self._lanes.clear()
        self._ready.clear()
        self._alone.is_ready = False
        self.share.waiting = 0
        self.wake_at = inf
        return jobs

    def _lane_for(self, job: Job) -> Lane:
        model = job.model
        key = batch_key(model, job.inputs) if model is not None and model.batch_size else None
        if key is None:
            return self._alone
        job.rows = job.inputs[0].shape[0]
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, model)
        return lane

    def _place(self, lane: Lane, now: float) -> None:
        """Add a lane that has jobs to the ready ones, or record when it may become ready."""
        ready_at = -inf if self.in_haste else lane.ready_at()
        if ready_at <= now:
            lane.is_ready = True
            heappush(self._ready, (lane.jobs[0].ticket, lane))
        elif ready_at < self.wake_at:
            self.wake_at = ready_at

    def _tidy(self, lane: Lane, now: float) -> None:
        """Put a lane in its place after jobs were removed, or delete it if it is empty."""
        if lane.jobs:
            self._place(lane, now)
        elif lane.key is not None:  # its key holds the model, which would otherwise stay in memory
            del self._lanes[lane.key]

    def _expire(self, lane: Lane, now: float) -> list[Job]:
        """Remove and return a lane's expired jobs, and lower `wake_at` to the next deadline."""
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
        self.share.waiting -= len(expired)
        return expired
