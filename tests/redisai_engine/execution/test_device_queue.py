"""Which deployment has the next turn, by a clock that the tests set."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redisai_engine.execution.device_queue import MOST_STUCK, DeviceQueue
from redisai_engine.execution.job import Batch, Job, RunnableModel
from support.execution import rows

BRIEF, QUICK, LONG = 1e-3, 0.015, 0.5


def queue_of(threads: int = 2, limit: int = 1000) -> DeviceQueue:
    return DeviceQueue("CPU", threads=threads, limit=limit)


def known(model, seconds: float) -> RunnableModel:
    """Return a model whose runs on one row are known to take so long."""
    made: RunnableModel = model()
    made.measured((1, 2), seconds)
    return made


def put(queue: DeviceQueue, model: RunnableModel, *, now: float = 0.0, deadline: float | None = None) -> Job:
    job = Job(model, rows(1.0), deadline, lambda _: None)
    queue.put(model, job, now)
    return job


def begin(queue: DeviceQueue, now: float = 0.0) -> Batch | None:
    """Take a batch as a thread does; None if it would have to wait."""
    lanes = queue.next_long()
    return None if lanes is None else queue.begin(lanes, now)


def end(queue: DeviceQueue, batch: Batch, seconds: float) -> None:
    batch.seconds = seconds
    queue.end(batch)


def begin_all(queue: DeviceQueue) -> list[RunnableModel | None]:
    """Begin all runs that may begin now, and return their models."""
    begun = []
    while (batch := begin(queue)) is not None:
        begun.append(batch.jobs[0].model)
    return begun


def test_one_deployment_never_holds_all_threads(model) -> None:
    queue, slow = queue_of(threads=4), known(model, LONG)
    for _ in range(9):
        put(queue, slow)

    assert begin_all(queue) == [slow] * 3


def alone(queue: DeviceQueue, model: RunnableModel, *, until: float = 1.0) -> None:
    """Have a deployment's requests come, and no others, for as long as it takes to be alone."""
    put(queue, model)
    for _ in range(8):
        put(queue, model, now=until)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_quick_runs_of_a_deployment_that_is_alone_may_hold_all_threads(model, threads: int) -> None:
    queue, quick = queue_of(threads), known(model, QUICK)

    alone(queue, quick)

    assert begin_all(queue) == [quick] * threads


def test_runs_that_only_were_quick_until_now_never_hold_all_threads(model, counting) -> None:
    """A model that loops, one whose runs have been far longer than known, and a form that hasn't run yet."""
    looping, surprising, unknown = known(lambda: model(counting), QUICK), known(model, BRIEF), model()
    surprising.measured((1, 2), 0.1)

    for each in (looping, surprising, unknown):
        queue = queue_of(threads=4)
        alone(queue, each)
        assert begin_all(queue) == [each] * 3


def test_who_ran_elsewhere_a_moment_ago_is_not_forgotten(model) -> None:
    """Its next request needs a processor, though no thread."""
    queue, quick, other = queue_of(threads=4), known(model, QUICK), known(model, BRIEF)
    alone(queue, quick, until=1.0)

    queue.saw(other.share, 1.1)
    put(queue, quick, now=1.2)
    put(queue, quick, now=1.6)

    assert begin_all(queue) == [quick] * 3
    put(queue, quick, now=1.8)
    assert begin_all(queue) == [quick]


@pytest.mark.parametrize("quick", [BRIEF, QUICK])
def test_who_comes_begins_at_once_however_many_quick_runs_another_has(model, quick: float) -> None:
    queue, busy, others = queue_of(), known(model, quick), [known(model, LONG), known(model, QUICK)]
    alone(queue, busy)
    assert begin_all(queue) == [busy, busy]

    for other in others:
        put(queue, other)

    assert begin_all(queue) == others


def test_a_deployment_with_quick_runs_has_no_more_than_its_part_of_the_turns(model) -> None:
    """Two deployments that always have something waiting share two threads."""
    queue, busy = queue_of(), [known(model, QUICK), known(model, QUICK)]
    for each in busy:
        for _ in range(500):
            put(queue, each)
    running = [begin(queue), begin(queue)]
    had: Counter[RunnableModel] = Counter()

    for turn in range(400):
        batch = running.pop(0)
        assert batch is not None
        end(queue, batch, QUICK)
        had[batch.jobs[0].model] += 1
        running.append(begin(queue, turn * QUICK))

    assert had[busy[0]] == pytest.approx(had[busy[1]], abs=2)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_who_comes_begins_at_once_however_much_another_has_waiting(model, threads: int) -> None:
    queue, slow, other = queue_of(threads), known(model, LONG), known(model, LONG)
    for _ in range(50):
        put(queue, slow)
    begin_all(queue)

    put(queue, other)

    assert begin_all(queue) == [other]


def test_a_brief_run_begins_although_many_long_ones_are_under_way(model) -> None:
    queue = queue_of()
    for _ in range(9):
        put(queue, known(model, LONG))
    long_ones = len(begin_all(queue))
    brief = known(model, BRIEF)

    put(queue, brief)

    assert long_ones == 4
    assert begin_all(queue) == [brief]


def test_threads_are_bounded_whoever_comes(model) -> None:
    queue = queue_of()
    for _ in range(50):
        put(queue, known(model, BRIEF))
        put(queue, known(model, LONG))

    assert len(begin_all(queue)) <= 12


def test_what_takes_fifty_times_as_long_has_a_fiftieth_of_the_turns(model) -> None:
    """Both always have something waiting, and one place is left for them."""
    queue, slow, quick = queue_of(threads=1), known(model, 0.5), known(model, 0.01)
    seconds = {slow: 0.5, quick: 0.01}
    turns: Counter[RunnableModel] = Counter()
    for each in (slow, quick):
        put(queue, each)
        put(queue, each)
    running = [begin(queue), begin(queue)]
    for batch in running:
        assert batch is not None

    for _ in range(510):
        batch = min((b for b in running if b is not None), key=lambda b: b.started_at + seconds[b.jobs[0].model])
        running.remove(batch)
        ran = batch.jobs[0].model
        now = batch.started_at + seconds[ran]
        end(queue, batch, seconds[ran])
        turns[ran] += 1
        put(queue, ran, now=now)
        running.append(begin(queue, now))

    assert turns[quick] / turns[slow] == pytest.approx(50, rel=0.1)


def test_the_same_run_time_for_each_not_the_same_number_of_requests(model) -> None:
    """Three deployments share one place."""
    queue = queue_of(threads=1)
    busy = known(model, LONG), known(model, LONG), known(model, LONG)
    for each in busy:  # these hold the spare places
        put(queue, each)
    begin_all(queue)
    seconds = {known(model, 0.1): 0.1, known(model, 0.2): 0.2, known(model, 0.4): 0.4}
    for each in seconds:
        for _ in range(1000):
            put(queue, each)
    end(queue, queue.running[0], LONG)
    had: Counter[RunnableModel] = Counter()

    for _ in range(700):
        batch = begin(queue)
        assert batch is not None
        assert begin(queue) is None
        ran = batch.jobs[0].model
        assert ran is not None
        had[ran] += round(1000 * seconds[ran])
        end(queue, batch, seconds[ran])

    assert max(had.values()) - min(had.values()) <= 800


def test_nobody_saves_up_turns(model) -> None:
    """Who comes back after an hour has the next turn, not an hour of turns."""
    queue, regular, returning = queue_of(threads=1), known(model, LONG), known(model, LONG)
    for each in (known(model, LONG), known(model, LONG)):
        put(queue, each)
    begin_all(queue)
    for _ in range(7200):
        put(queue, regular)
    for _ in range(7000):
        batch = begin(queue)
        assert batch is not None
        end(queue, batch, LONG)
    for _ in range(10):
        put(queue, returning)

    order = []
    for _ in range(8):
        batch = begin(queue)
        assert batch is not None
        order.append(batch.jobs[0].model)
        end(queue, batch, LONG)

    assert order.count(returning) in (4, 5)


def test_short_runs_are_left_to_the_event_loop(model) -> None:
    queue, short = queue_of(), known(model, 1e-5)
    put(queue, short)

    lanes = queue.next_short()

    assert begin(queue) is None
    assert lanes is not None
    assert lanes.share is short.share


def test_a_deployment_s_bound_is_its_own(model) -> None:
    queue, slow, other = queue_of(limit=3), known(model, LONG), known(model, LONG)
    for _ in range(3):
        put(queue, slow)

    assert (queue.is_full(slow.share), queue.is_full(other.share)) == (True, False)


def test_all_bounds_together_are_bounded(model) -> None:
    """Whatever the order, a thousand deployments queue a few times as much as one may."""
    queue, models = queue_of(limit=100), [known(model, LONG) for _ in range(1000)]
    for each in models:
        while not queue.is_full(each.share):
            put(queue, each)

    assert queue.size <= 100 * 4 + 1000


def test_a_run_that_was_given_up_frees_its_place_and_its_deployment_waits(model) -> None:
    queue, stuck, other = queue_of(threads=1), known(model, LONG), known(model, LONG)
    put(queue, stuck)
    batch = begin(queue)
    assert batch is not None
    waiting = put(queue, stuck)
    put(queue, other)

    jobs = queue.give_up(batch)

    assert jobs == [waiting]
    assert begin_all(queue) == [other]
    assert (queue.size, stuck.share.stuck, stuck.share.running) == (0, 1, 0)
    end(queue, batch, 60.0)
    assert (stuck.share.stuck, queue.stuck) == (0, [])


def test_runs_that_were_given_up_keep_a_bounded_number_of_threads(model) -> None:
    queue = queue_of(threads=1)
    given_up = 0
    for _ in range(100):
        put(queue, known(model, LONG))
        batch = begin(queue)
        if batch is not None:
            queue.give_up(batch)
            given_up += 1

    assert given_up <= MOST_STUCK + 3


def test_a_deadline_removes_jobs_of_any_deployment(model) -> None:
    queue = queue_of()
    early, late = put(queue, model(), deadline=4.0), put(queue, model(), deadline=6.0)
    put(queue, model())

    wake_at = queue.wake_at
    expired = queue.sweep(5.0)

    assert (wake_at, expired, queue.wake_at, queue.size) == (4.0, [early], 6.0, 2)
    assert queue.sweep(6.0) == [late]
    assert queue.wake_at == inf


def test_in_a_hurry_batches_do_not_wait(model) -> None:
    queue, batched = queue_of(), model(batch_size=4, min_batch_size=4)
    put(queue, batched)
    before = begin(queue)

    queue.hurry(0.0)

    assert before is None
    assert begin_all(queue) == [batched]


def test_clear_gives_back_everything(model) -> None:
    queue = queue_of()
    jobs = [put(queue, model()), put(queue, model(batch_size=4, min_batch_size=2))]

    cleared = queue.clear()

    assert cleared == jobs
    assert (queue.size, queue.next_long(), queue.sweep(1e9)) == (0, None, [])


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_happens_every_job_comes_out_once(model_of, data: st.DataObject) -> None:
    """Jobs come, runs begin, end and are given up in any order."""
    queue, models = queue_of(threads=data.draw(st.integers(1, 3)), limit=5), [model_of() for _ in range(4)]
    inside: list[Job] = []
    out: list[Job] = []
    now = 0.0
    for step in data.draw(st.lists(st.sampled_from("pppbbegs"), max_size=60)):
        now += 1.0
        if step == "p":
            chosen = data.draw(st.sampled_from(models))
            if not queue.is_full(chosen.share):
                deadline = data.draw(st.none() | st.floats(now, now + 9))
                inside.append(put(queue, chosen, now=now, deadline=deadline))
        elif step == "b" and (batch := begin(queue, now)) is not None:
            out += batch.jobs
        elif step == "e" and queue.running:
            end(queue, data.draw(st.sampled_from(queue.running)), data.draw(st.floats(0, 9)))
        elif step == "g" and queue.running:
            out += queue.give_up(data.draw(st.sampled_from(queue.running)))
        elif step == "s":
            out += queue.sweep(now)
        assert queue.size == sum(each.share.waiting for each in models) == len(inside) - len(out)

    out += queue.clear()
    assert sorted(map(id, out)) == sorted(map(id, inside))
