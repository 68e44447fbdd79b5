"""Which jobs run next, by a clock that the tests set."""

from __future__ import annotations

from math import inf

from redisai_engine.backends.base import Array
from redisai_engine.execution.device_queue import DeviceQueue
from redisai_engine.execution.job import Job, RunnableModel
from support.execution import rows


def put(
    queue: DeviceQueue,
    model: RunnableModel | None,
    inputs: list[Array] | None = None,
    *,
    now: float = 0.0,
    deadline: float | None = None,
) -> Job:
    job = Job(model, rows(1.0) if inputs is None else inputs, deadline, lambda _: None)
    queue.put(job, now)
    return job


def drain(queue: DeviceQueue, now: float = 0.0) -> list[list[Job]]:
    batches = []
    while queue.next_lane() is not None:
        batches.append(queue.take(now))
    return batches


def test_first_come_first_served_over_all_models(model) -> None:
    queue, plain, batched = DeviceQueue("CPU"), model(), model(batch_size=1)
    jobs = [put(queue, m) for m in (plain, batched, None, plain, batched, batched)]

    assert drain(queue) == [[job] for job in jobs]
    assert queue.size == 0


def test_a_batch_takes_matching_jobs_from_behind_others(model) -> None:
    queue, plain, batched = DeviceQueue("CPU"), model(), model(batch_size=4)
    a, b, c = put(queue, batched), put(queue, plain), put(queue, batched)

    assert drain(queue) == [[a, c], [b]]


def test_a_batch_is_taken_until_batchsize_is_reached_or_exceeded(model) -> None:
    """7 and 7 rows with BATCHSIZE 8 make a batch of 14, as in RedisAI."""
    queue, batched = DeviceQueue("CPU"), model(batch_size=8)
    a, b, c = (put(queue, batched, rows(*range(7))) for _ in range(3))

    assert drain(queue) == [[a, b], [c]]


def test_a_request_that_fills_the_batch_runs_alone_and_at_once(model) -> None:
    queue, batched = DeviceQueue("CPU"), model(batch_size=2, min_batch_size=9)
    a, _ = put(queue, batched, rows(1, 2, 3)), put(queue, batched)

    assert drain(queue) == [[a]]


def test_different_shapes_do_not_join(model) -> None:
    queue, batched = DeviceQueue("CPU"), model(batch_size=4)
    a, b = put(queue, batched, rows(1, width=2)), put(queue, batched, rows(1, width=3))

    assert drain(queue) == [[a], [b]]


def test_minbatchsize_waits_for_more_rows_and_lets_others_pass(model) -> None:
    queue, plain, batched = DeviceQueue("CPU"), model(), model(batch_size=4, min_batch_size=3)
    a, b = put(queue, batched), put(queue, plain)

    before = drain(queue)
    c = put(queue, batched, rows(1, 2))
    after = drain(queue)

    assert (before, after) == ([[b]], [[a, c]])


def test_without_minbatchtimeout_a_batch_waits_without_limit(model) -> None:
    queue = DeviceQueue("CPU")
    put(queue, model(batch_size=4, min_batch_size=3))

    assert queue.wake_at == inf
    assert queue.sweep(1e9) == []
    assert queue.next_lane() is None


def test_minbatchtimeout_counts_from_the_first_request(model) -> None:
    queue, batched = DeviceQueue("CPU"), model(batch_size=4, min_batch_size=3, min_batch_timeout_ms=300)
    a = put(queue, batched, now=10.0)
    b = put(queue, batched, now=10.2)

    wake_at = queue.wake_at
    queue.sweep(10.29)
    early = drain(queue, 10.29)
    queue.sweep(10.3)

    assert wake_at == 10.3
    assert early == []
    assert drain(queue, 10.3) == [[a, b]]


def test_what_is_left_of_a_batch_waits_for_its_own_time(model) -> None:
    queue, batched = DeviceQueue("CPU"), model(batch_size=2, min_batch_size=2, min_batch_timeout_ms=100)
    a, b, c = (put(queue, batched, now=now) for now in (1.0, 1.01, 1.02))

    batches = drain(queue, 1.02)
    wake_at = queue.wake_at
    queue.sweep(wake_at)

    assert batches == [[a, b]]
    assert wake_at <= 1.12
    queue.sweep(1.12)
    assert drain(queue, 1.12) == [[c]]


def test_a_deadline_removes_jobs_wherever_they_stand(model) -> None:
    queue, plain, batched = DeviceQueue("CPU"), model(), model(batch_size=4, min_batch_size=4)
    a = put(queue, plain, deadline=5.0)
    b = put(queue, plain)
    c = put(queue, batched, deadline=4.0)
    d = put(queue, batched, deadline=6.0)

    wake_at = queue.wake_at
    expired = queue.sweep(5.0)

    assert wake_at == 4.0
    assert expired == [a, c]
    assert queue.wake_at == 6.0
    assert queue.size == 2
    assert drain(queue) == [[b]]
    assert queue.sweep(6.0) == [d]


def test_rows_of_an_expired_request_no_longer_count(model) -> None:
    queue, batched = DeviceQueue("CPU"), model(batch_size=4, min_batch_size=2)
    put(queue, batched, deadline=1.0)
    b = put(queue, batched)

    queue.sweep(1.0)
    waiting = drain(queue)
    c = put(queue, batched)

    assert waiting == []
    assert drain(queue) == [[b, c]]


def test_in_haste_a_batch_waits_no_more(model) -> None:
    queue = DeviceQueue("CPU")
    a = put(queue, model(batch_size=4, min_batch_size=4))

    queue.in_haste = True
    queue.sweep(0.0)

    assert drain(queue) == [[a]]


def test_clear_gives_back_everything(model) -> None:
    queue = DeviceQueue("CPU")
    jobs = [put(queue, model()), put(queue, model(batch_size=4, min_batch_size=2))]

    cleared = queue.clear()

    assert cleared == jobs
    assert (queue.size, queue.next_lane(), queue.sweep(1e9)) == (0, None, [])


def test_a_batch_is_short_when_runs_of_its_size_were(model) -> None:
    """One row took little time; what four rows take isn't known yet."""
    queue, batched = DeviceQueue("CPU"), model(batch_size=4)
    batched.measured(2, 1e-5)

    put(queue, batched)
    lane = queue.next_lane()
    assert lane is not None
    alone = lane.is_short()
    for _ in range(3):
        put(queue, batched)

    assert (alone, lane.is_short()) == (True, False)
