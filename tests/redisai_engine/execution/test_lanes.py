"""Which jobs of one deployment run next, by a clock that the tests set."""

from __future__ import annotations

from itertools import count
from math import inf

from redisai_engine.backends.base import Array
from redisai_engine.execution.job import Job, RunnableModel, Share
from redisai_engine.execution.lanes import Lanes
from support.execution import rows

_TICKETS = count()


def put(
    lanes: Lanes,
    model: RunnableModel,
    inputs: list[Array] | None = None,
    *,
    now: float = 0.0,
    deadline: float | None = None,
) -> Job:
    job = Job(model, rows(1.0) if inputs is None else inputs, deadline, lambda _: None)
    job.ticket = next(_TICKETS)
    lanes.put(job, now)
    return job


def drain(lanes: Lanes, now: float = 0.0) -> list[list[Job]]:
    batches = []
    while lanes.next_lane() is not None:
        batches.append(lanes.take(now))
    return batches


def test_first_come_first_served_batched_or_not(model) -> None:
    lanes, plain, batched = Lanes(Share()), model(), model(batch_size=1)
    jobs = [put(lanes, m) for m in (plain, batched, plain, batched, batched)]

    assert drain(lanes) == [[job] for job in jobs]
    assert lanes.share.waiting == 0


def test_a_batch_takes_matching_jobs_from_behind_others(model) -> None:
    lanes, plain, batched = Lanes(Share()), model(), model(batch_size=4)
    a, b, c = put(lanes, batched), put(lanes, plain), put(lanes, batched)

    assert drain(lanes) == [[a, c], [b]]


def test_a_batch_is_taken_until_batchsize_is_reached_or_exceeded(model) -> None:
    """7 and 7 rows with BATCHSIZE 8 make a batch of 14, as in RedisAI."""
    lanes, batched = Lanes(Share()), model(batch_size=8)
    a, b, c = (put(lanes, batched, rows(*range(7))) for _ in range(3))

    assert drain(lanes) == [[a, b], [c]]


def test_a_request_that_fills_the_batch_runs_alone_and_at_once(model) -> None:
    lanes, batched = Lanes(Share()), model(batch_size=2, min_batch_size=9)
    a, _ = put(lanes, batched, rows(1, 2, 3)), put(lanes, batched)

    assert drain(lanes) == [[a]]


def test_different_shapes_do_not_join(model) -> None:
    lanes, batched = Lanes(Share()), model(batch_size=4)
    a, b = put(lanes, batched, rows(1, width=2)), put(lanes, batched, rows(1, width=3))

    assert drain(lanes) == [[a], [b]]


def test_minbatchsize_waits_for_more_rows_and_lets_others_pass(model) -> None:
    lanes, plain, batched = Lanes(Share()), model(), model(batch_size=4, min_batch_size=3)
    a, b = put(lanes, batched), put(lanes, plain)

    before = drain(lanes)
    c = put(lanes, batched, rows(1, 2))
    after = drain(lanes)

    assert (before, after) == ([[b]], [[a, c]])


def test_without_minbatchtimeout_a_batch_waits_without_limit(model) -> None:
    lanes = Lanes(Share())
    put(lanes, model(batch_size=4, min_batch_size=3))

    assert lanes.wake_at == inf
    assert lanes.sweep(1e9) == []
    assert lanes.next_lane() is None


def test_minbatchtimeout_counts_from_the_first_request(model) -> None:
    lanes, batched = Lanes(Share()), model(batch_size=4, min_batch_size=3, min_batch_timeout_ms=300)
    a = put(lanes, batched, now=10.0)
    b = put(lanes, batched, now=10.2)

    wake_at = lanes.wake_at
    lanes.sweep(10.29)
    early = drain(lanes, 10.29)
    lanes.sweep(10.3)

    assert wake_at == 10.3
    assert early == []
    assert drain(lanes, 10.3) == [[a, b]]


def test_what_is_left_of_a_batch_waits_for_its_own_time(model) -> None:
    lanes, batched = Lanes(Share()), model(batch_size=2, min_batch_size=2, min_batch_timeout_ms=100)
    a, b, c = (put(lanes, batched, now=now) for now in (1.0, 1.01, 1.02))

    batches = drain(lanes, 1.02)
    wake_at = lanes.wake_at
    lanes.sweep(wake_at)

    assert batches == [[a, b]]
    assert wake_at <= 1.12
    lanes.sweep(1.12)
    assert drain(lanes, 1.12) == [[c]]


def test_a_deadline_removes_jobs_wherever_they_stand(model) -> None:
    lanes, plain, batched = Lanes(Share()), model(), model(batch_size=4, min_batch_size=4)
    a = put(lanes, plain, deadline=5.0)
    b = put(lanes, plain)
    c = put(lanes, batched, deadline=4.0)
    d = put(lanes, batched, deadline=6.0)

    wake_at = lanes.wake_at
    expired = lanes.sweep(5.0)

    assert wake_at == 4.0
    assert expired == [a, c]
    assert lanes.wake_at == 6.0
    assert lanes.share.waiting == 2
    assert drain(lanes) == [[b]]
    assert lanes.sweep(6.0) == [d]


def test_rows_of_an_expired_request_no_longer_count(model) -> None:
    lanes, batched = Lanes(Share()), model(batch_size=4, min_batch_size=2)
    put(lanes, batched, deadline=1.0)
    b = put(lanes, batched)

    lanes.sweep(1.0)
    waiting = drain(lanes)
    c = put(lanes, batched)

    assert waiting == []
    assert drain(lanes) == [[b, c]]


def test_in_haste_a_batch_waits_no_more(model) -> None:
    lanes = Lanes(Share())
    a = put(lanes, model(batch_size=4, min_batch_size=4))

    lanes.in_haste = True
    lanes.sweep(0.0)

    assert drain(lanes) == [[a]]


def test_clear_gives_back_everything(model) -> None:
    lanes = Lanes(Share())
    jobs = [put(lanes, model()), put(lanes, model(batch_size=4, min_batch_size=2))]

    cleared = lanes.clear()

    assert cleared == jobs
    assert (lanes.share.waiting, lanes.next_lane(), lanes.sweep(1e9)) == (0, None, [])


def test_a_batch_is_short_when_runs_of_its_size_were(model) -> None:
    """One row took little time; what four rows take isn't known yet."""
    lanes, batched = Lanes(Share()), model(batch_size=4)
    batched.measured((1, 2), 1e-5)

    put(lanes, batched)
    lane = lanes.next_lane()
    assert lane is not None
    alone = lane.is_short()
    for _ in range(3):
        put(lanes, batched)

    assert (alone, lane.is_short()) == (True, False)
