"""
The queue of one device: the deployments whose jobs wait for it, and which of them has the next turn.

Theory of operation. The turn goes to the deployment that has been served least, by the run time that it has had. A run
is charged with what it is expected to take when it begins, and with the difference when it ends. Who comes back after a
pause is treated as served up to the queue's clock: nobody saves up turns.

Fairness alone doesn't help who comes while long runs hold all threads, because no run is interrupted. So one deployment
never holds all threads, except with quick runs while no other has come for a while. One that holds none may begin
although as many runs as `threads` are under way (up to `_SPARE` more), and for brief runs there are `_SPARE_FOR_BRIEF`
more places. Runs that were given up and go on don't count, up to `MOST_STUCK` of them.

The queue has no clock and no thread: callers hold `lock` and pass the time.

Invariant: `_waiting` holds exactly the deployments that have waiting jobs.
"""

from __future__ import annotations

import threading
from math import inf

from redisai_engine.execution.job import Batch, Job, RunnableModel, Share
from redisai_engine.execution.lanes import Lanes

#: Runs beyond `threads` for deployments that have none under way; and beyond these, brief ones.
_SPARE = 2
_SPARE_FOR_BRIEF = 8

#: For so long no other deployment has had a request when one is alone. Otherwise others would wait for a processor.
_ALONE_SECONDS = 0.5

#: Runs that were given up and keep their threads: so many threads are replaced.
MOST_STUCK = 16


class DeviceQueue:
    """
    The jobs that wait for one device. `running` has the batches that its threads are running now.

    `limit` is how many jobs of one deployment may wait.
    """

    def __init__(self, device: str, *, threads: int, limit: int) -> None:
        self.device = device
        self.lock = threading.Lock()
        #: The device's threads wait on this condition. It shares `lock`.
        self.work = threading.Condition(self.lock)
        self.size = 0
        self.wake_at = inf
        self.running: list[Batch] = []
        self.stuck: list[Batch] = []
        self._threads = threads
        self._limit = limit
        self._most_of_one = max(1, threads - 1)
        self._in_haste = False
        self._clock = 0.0
        self._next_ticket = 0  # tickets number the jobs in order of arrival
        self._waiting: dict[Share, Lanes] = {}
        self._latest: Share | None = None  # whose request came last
        self._changed_at = 0.0  # when the one before it was another deployment's
        self._alone: Share | None = None

    def is_full(self, share: Share) -> bool:
        """
        Return whether no more jobs of a deployment may wait.

        Each may have `limit`, or, once that many wait in all, its part of them.
        """
        if self.size < self._limit:
            return False
        others = len(self._waiting) - (share in self._waiting)
        return share.waiting >= max(1, self._limit // (others + 1))

    def saw(self, share: Share, now: float) -> None:
        """Take notice of a request of a deployment, wherever it will be run."""
        if share is not self._latest:
            self._latest, self._changed_at, self._alone = share, now, None
        elif self._alone is None and now - self._changed_at >= _ALONE_SECONDS:
            self._alone = share

    def put(self, model: RunnableModel, job: Job, now: float) -> None:
        """Queue a job. `now` is the current time of the monotonic clock, in seconds."""
        self._next_ticket += 1
        job.ticket = self._next_ticket
        share = model.share
        self.saw(share, now)
        lanes = self._waiting.get(share)
        if lanes is None:
            lanes = self._waiting[share] = Lanes(share, in_haste=self._in_haste)
            share.served = max(share.served, self._clock)
        lanes.put(job, now)
        self.size += 1
        self.wake_at = min(self.wake_at, lanes.wake_at)

    def next_short(self) -> Lanes | None:
        """Return the deployment that is next to run in the event loop: its next run is known to be short."""
        return self._least_served([lanes for lanes in self._waiting.values() if lanes.is_short()])

    def next_long(self) -> Lanes | None:
        """Return the deployment that is next to run in a thread, or None if none may begin."""
        return self._least_served([lanes for lanes in self._waiting.values() if self._may_begin(lanes)])

    def take(self, lanes: Lanes, now: float) -> list[Job]:
        """Remove and return the jobs of a deployment that run next, together. It must have a ready lane."""
        jobs = lanes.take(now)
        self.size -= len(jobs)
        self._tidy(lanes)
        return jobs

    def begin(self, lanes: Lanes, now: float) -> Batch:
        """Take the jobs of a deployment that run next, for a thread that calls `end` after the run."""
        share = lanes.share
        lane = lanes.next_lane()
        expected = lane.expected() if lane is not None else 0.0
        jobs = self.take(lanes, now)
        model = jobs[0].model
        batch = Batch(jobs, now, model.loaded.new_stop() if model is not None else None)
        batch.charged = expected
        share.running += 1
        self._clock = max(self._clock, share.served)
        share.served += expected
        self.running.append(batch)
        return batch

    def end(self, batch: Batch) -> None:
        """Free the place of a batch that `begin` returned, after its run."""
        share = batch.share
        if batch.is_stuck:
            self.stuck.remove(batch)
            share.stuck -= 1
        else:
            self.running.remove(batch)
            share.running -= 1
        share.served += batch.seconds - batch.charged

    def give_up(self, batch: Batch) -> list[Job]:
        """
        Free the place of a batch whose run can't be stopped, until it ends. Return the jobs that wait behind it.

        They are the deployment's, all of which could be as long.
        """
        batch.is_stuck = True
        self.running.remove(batch)
        self.stuck.append(batch)
        share = batch.share
        share.running -= 1
        share.stuck += 1
        lanes = self._waiting.pop(share, None)
        jobs = lanes.clear() if lanes is not None else []
        self.size -= len(jobs)
        return jobs

    def hurry(self, now: float) -> list[Job]:
        """Have batches no longer wait to fill up. Remove and return the jobs whose deadline has passed."""
        self._in_haste = True
        for lanes in self._waiting.values():
            lanes.in_haste = True
            lanes.wake_at = now
        return self.sweep(now)

    def sweep(self, now: float) -> list[Job]:
        """Remove and return the jobs whose deadline has passed, and make the lanes ready whose time has come."""
        expired: list[Job] = []
        for lanes in list(self._waiting.values()):
            if lanes.wake_at <= now:
                expired += lanes.sweep(now)
                self._tidy(lanes)
        self.size -= len(expired)
        self.wake_at = min([lanes.wake_at for lanes in self._waiting.values()], default=inf)
        return expired

    def clear(self) -> list[Job]:
        """Remove and return all jobs."""
        jobs = [job for lanes in self._waiting.values() for job in lanes.clear()]
        self._waiting.clear()
        self.size = 0
        self.wake_at = inf
        return jobs

    def _tidy(self, lanes: Lanes) -> None:
        """Forget a deployment without jobs, whose models would otherwise stay in memory."""
        if not lanes.share.waiting:
            del self._waiting[lanes.share]

    def _may_begin(self, lanes: Lanes) -> bool:
        """Return whether a deployment has a run for a thread, and a place for it."""
        lane = lanes.next_lane()
        if lane is None or lane.is_short():
            return False
        busy = len(self.running) + max(0, len(self.stuck) - MOST_STUCK)
        own = lanes.share.running + len(lanes.share.held)
        if own:
            may_have_all = lanes.share is self._alone and lane.is_quick()
            most = lanes.share.at_once or (self._threads if may_have_all else self._most_of_one)
            return own < most and busy < self._threads
        return busy < self._threads + _SPARE + (_SPARE_FOR_BRIEF if lane.is_brief() else 0)

    @staticmethod
    def _least_served(candidates: list[Lanes]) -> Lanes | None:
        return min(candidates, key=_turn, default=None)


def _turn(lanes: Lanes) -> tuple[float, int]:
    lane = lanes.next_lane()
    return lanes.share.served, lane.jobs[0].ticket if lane is not None else 0
