"""Jobs on real event loops, real threads and real models: what runs where and when, and what comes back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from redisai_engine.errors import EngineClosing, EngineError, ModelRunError, QueueFull
from redisai_engine.execution.job import TIMED_OUT, Outcome
from support.execution import Client, Observed, count, empty_job, rows

LOOP_THREAD = "MainThread"


def values(outcome: Outcome) -> Any:
    assert isinstance(outcome, list), outcome
    assert outcome[0] is not None
    return outcome[0].tolist()


def test_a_job_gets_its_outputs_and_is_counted(run_loop, model) -> None:
    async def test() -> None:
        async with Client() as client:
            runnable = model()

            outcome = await client.start(runnable, rows(1, 2, 3))

            assert values(outcome) == [[2, 2], [4, 4], [6, 6]]
            assert (runnable.statistics.calls, runnable.statistics.samples) == (1, 3)
            assert runnable.statistics.duration_us > 0

    run_loop(test)


def test_submit_runs_nothing_by_itself(run_loop, model) -> None:
    async def test() -> None:
        async with Client() as client:
            outcome = client.submit(model(), rows(1))
            await asyncio.sleep(0)

            assert not outcome.done()
            client.executor.run_turn()
            await outcome

    run_loop(test)


def test_a_model_runs_in_a_thread_until_its_time_is_known_then_in_the_event_loop(run_loop, model, doubling) -> None:
    async def test() -> None:
        async with Client() as client:
            observed = Observed(doubling)
            runnable = model(observed)

            await client.learn(runnable, rows(1))
            outcome = client.start(runnable, rows(1))

            assert outcome.done()
            assert (observed.threads[0], observed.threads[-1]) == ("CPU-1", LOOP_THREAD)

    run_loop(test)


def test_a_model_whose_time_depends_on_values_never_runs_in_the_event_loop(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            observed = Observed(counting)

            await client.learn(model(observed), count(1))

            assert LOOP_THREAD not in observed.threads

    run_loop(test)


def test_a_failing_run_is_an_error_and_is_counted(run_loop, model) -> None:
    async def test() -> None:
        async with Client() as client:
            runnable = model()
            await client.learn(runnable, rows(1))

            calls = runnable.statistics.calls
            wrong = [rows(1)[0].astype("f8")]
            outcomes = [await client.start(runnable, wrong) for _ in range(2)]

            assert [type(outcome) for outcome in outcomes] == [ModelRunError] * 2
            assert (runnable.statistics.calls, runnable.statistics.errors) == (calls + 2, 2)

    run_loop(test)


def test_a_short_job_waits_behind_a_long_one_of_the_same_device(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            short = model()
            await client.learn(short, rows(1))
            client.order.clear()

            long = client.start(model(counting), count(100_000), name="long")
            first = client.start(short, rows(1), name="short")

            assert not first.done()
            await asyncio.gather(long, first)
            assert client.order == ["long", "short"]

    run_loop(test)


def test_another_device_does_not_wait(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            long = client.start(model(counting), count(100_000), name="long")
            other = client.start(model(device="CPU:1"), rows(1), name="other")

            await asyncio.gather(long, other)
            assert client.order == ["other", "long"]

    run_loop(test)


@pytest.mark.parametrize("devices", [("CPU", "CPU"), ("CPU", "CPU:1")])
def test_runs_overlap_on_two_threads_or_two_devices(run_loop, model, doubling, devices: tuple[str, str]) -> None:
    """Each run waits until the other has started."""

    async def test() -> None:
        async with Client(threads_per_queue=2) as client:
            observed = Observed(doubling, gate=threading.Barrier(2))

            outcomes = [client.start(model(observed, device=device), rows(1)) for device in devices]

            assert [values(outcome) for outcome in await asyncio.gather(*outcomes)] == [[[2, 2]]] * 2

    run_loop(test)


def test_timeout_removes_a_job_that_waits_behind_a_long_one(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            runnable = model()
            long = client.start(model(counting), count(300_000), name="long")
            late = client.start(runnable, rows(1), timeout_ms=20, name="late")

            assert await late is TIMED_OUT
            await long
            assert client.order == ["late", "long"]
            assert runnable.statistics.calls == 0

    run_loop(test)


@pytest.mark.slow
def test_timeout_does_not_touch_a_run_that_began_in_time(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            # On a busy machine the run may start late; the run itself takes about a second.
            outcome = await client.start(model(counting), count(1_000_000), timeout_ms=500)

            assert values(outcome) == [1_000_000.0]

    run_loop(test)


def test_a_deadline_that_is_over_at_once(run_loop, model) -> None:
    async def test() -> None:
        async with Client() as client:
            runnable = model()
            await client.learn(runnable, rows(1))

            assert await client.start(runnable, rows(1), timeout_ms=-1) is TIMED_OUT

    run_loop(test)


def test_what_waits_together_runs_together(run_loop, model, doubling, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            observed = Observed(doubling)
            batched = model(observed, batch_size=4)
            long = client.start(model(counting), count(10_000))

            outcomes = [client.start(batched, rows(i)) for i in range(6)]

            assert [values(outcome) for outcome in await asyncio.gather(*outcomes)] == [[[2 * i] * 2] for i in range(6)]
            await long
            assert observed.batches == [4, 2]
            assert (batched.statistics.calls, batched.statistics.samples) == (6, 6)

    run_loop(test)


def test_batches_form_in_the_event_loop_too(run_loop, model, doubling) -> None:
    async def test() -> None:
        async with Client() as client:
            observed = Observed(doubling)
            batched = model(observed, batch_size=4)
            await client.learn(batched, rows(1, 2, 3, 4))

            outcomes = [client.submit(batched, rows(i)) for i in range(4)]
            client.executor.run_turn()

            assert all(outcome.done() for outcome in outcomes)
            assert (observed.batches[-1], observed.threads[-1]) == (4, LOOP_THREAD)

    run_loop(test)


def test_minbatchsize_waits_for_company(run_loop, model) -> None:
    async def test() -> None:
        async with Client() as client:
            batched = model(batch_size=4, min_batch_size=2)
            first = client.start(batched, rows(1))
            await client.start(model(), rows(9))  # other requests overtake it

            assert not first.done()
            second = client.start(batched, rows(2))

            assert [values(outcome) for outcome in await asyncio.gather(first, second)] == [[[2, 2]], [[4, 4]]]

    run_loop(test)


def test_minbatchtimeout_ends_the_wait(run_loop, model) -> None:
    async def test() -> None:
        async with Client() as client:
            started = client.loop.time()

            outcome = await client.start(model(batch_size=4, min_batch_size=2, min_batch_timeout_ms=50), rows(1))

            assert values(outcome) == [[2, 2]]
            assert client.loop.time() - started >= 0.045

    run_loop(test)


def test_timeout_ends_the_wait_for_minbatchsize(run_loop, model) -> None:
    async def test() -> None:
        async with Client() as client:
            batched = model(batch_size=4, min_batch_size=2)

            late = await client.start(batched, rows(1), timeout_ms=20)
            pair = [client.start(batched, rows(i)) for i in (1, 2)]

            assert late is TIMED_OUT
            assert len(await asyncio.gather(*pair)) == 2

    run_loop(test)


def test_a_run_beyond_the_execution_timeout_is_stopped(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client(execution_timeout_ms=100) as client:
            runnable = model(counting)

            outcome = await client.start(runnable, count(10**12))
            after = await client.start(runnable, count(3))

            assert isinstance(outcome, ModelRunError)
            assert "terminate flag" in outcome.wire
            assert values(after) == [3.0]
            assert (runnable.statistics.calls, runnable.statistics.errors) == (2, 1)

    run_loop(test)


def test_a_run_within_the_execution_timeout_goes_on_after_others_were_stopped(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client(execution_timeout_ms=400) as client:
            long = client.start(model(counting), count(10**12))
            fine = client.start(model(counting), count(50_000))

            assert isinstance(await long, ModelRunError)
            assert values(await fine) == [50_000.0]

    run_loop(test)


def test_beyond_the_queue_s_limit_jobs_are_refused(run_loop, model) -> None:
    async def test() -> None:
        async with Client(queue_limit=2) as client:
            batched = model(batch_size=9, min_batch_size=3)
            waiting = [client.start(batched, rows(1)) for _ in range(2)]

            refused = await client.start(batched, rows(1))

            assert isinstance(refused, QueueFull)
            assert refused.wire == "ERR the queue of device CPU is full: 2 requests are waiting; try again later"
            assert not any(outcome.done() for outcome in waiting)

    run_loop(test)


def test_a_job_submitted_from_done_runs_in_the_same_turn(run_loop, model) -> None:
    """So do the operations of a DAG that depend on each other."""

    async def test() -> None:
        async with Client() as client:
            runnable = model()
            await client.learn(runnable, rows(1))
            chained: list[asyncio.Future[Outcome]] = []

            first = client.submit(runnable, rows(1))
            first.add_done_callback(lambda _: None)
            client.executor.submit(empty_job(lambda _: chained.append(client.start(runnable, rows(2)))))
            client.executor.run_turn()

            assert values(chained[0].result()) == [[4, 4]]

    run_loop(test)


def test_a_barrier_waits_behind_what_runs(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            long = client.start(model(counting), count(50_000), name="long")
            barrier = client.start(None, [], name="barrier")

            assert await barrier == []
            assert long.done()
            assert client.order == ["long", "barrier"]

    run_loop(test)


def test_a_barrier_on_a_free_device_comes_at_once(run_loop) -> None:
    async def test() -> None:
        async with Client() as client:
            assert client.start(None, []).result() == []

    run_loop(test)


def test_many_short_jobs_leave_the_event_loop_room(run_loop, model) -> None:
    """A turn ends after some milliseconds, however many jobs are left."""

    async def test() -> None:
        async with Client() as client:
            runnable = model()
            await client.learn(runnable, rows(1))
            outcomes = [client.submit(runnable, rows(1)) for _ in range(5000)]
            done_when_called: list[int] = []

            client.loop.call_soon(lambda: done_when_called.append(sum(outcome.done() for outcome in outcomes)))
            client.executor.run_turn()
            await asyncio.gather(*outcomes)

            assert 0 < done_when_called[0] < 5000

    run_loop(test)


def test_short_jobs_go_back_to_the_event_loop_when_the_worker_is_through(run_loop, model, doubling, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            observed = Observed(doubling)
            runnable = model(observed)
            await client.learn(runnable, rows(1))
            observed.threads.clear()

            long = client.start(model(counting), count(20_000))
            outcomes = [client.start(runnable, rows(1)) for _ in range(20)]
            await asyncio.gather(long, *outcomes)

            assert set(observed.threads) == {LOOP_THREAD}

    run_loop(test)


def test_each_of_many_jobs_from_all_sides_gets_exactly_its_own_outcome(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client(threads_per_queue=2) as client:
            plain, batched = model(), model(batch_size=8, min_batch_size=2, min_batch_timeout_ms=5)
            slow = model(counting, device="CPU:1")
            expected, outcomes = [], []
            for i in range(400):
                runnable, inputs = [(plain, rows(i)), (batched, rows(i)), (slow, count(i))][i % 3]
                outcomes.append(client.submit(runnable, inputs))
                expected.append([i] if runnable is slow else [[2 * i] * 2])
                if i % 7 == 0:
                    client.executor.run_turn()
                    await asyncio.sleep(0)
            client.executor.run_turn()

            assert [values(outcome) for outcome in await asyncio.gather(*outcomes)] == expected

    run_loop(test)


def test_drain_finishes_what_runs_and_what_waits(run_loop, model, counting) -> None:
    """A batch that waits for more requests runs with those that it has."""

    async def test() -> None:
        async with Client() as client:
            long = client.start(model(counting), count(50_000))
            waiting = client.start(model(batch_size=4, min_batch_size=4), rows(1))

            await client.executor.drain()

            assert values(long.result()) == [50_000.0]
            assert values(waiting.result()) == [[2, 2]]

    run_loop(test)


def test_after_drain_jobs_are_refused(run_loop, model) -> None:
    async def test() -> None:
        async with Client() as client:
            await client.executor.drain()

            assert isinstance(await client.start(model(), rows(1)), EngineClosing)

    run_loop(test)


def test_close_stops_what_runs_and_refuses_what_waits(run_loop, model, counting) -> None:
    async def test() -> None:
        client = Client()
        running = client.start(model(counting), count(10**12))
        await _until(lambda: client.executor.queue_sizes() == {"CPU": 0})
        waiting = client.start(model(), rows(1))

        client.executor.close()

        assert isinstance(running.result(), EngineError)
        assert isinstance(waiting.result(), EngineClosing)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("CPU")]

    run_loop(test)


def test_a_caller_s_fault_does_not_cost_others_their_answers(model) -> None:
    problems: list[str] = []

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(str(context["exception"])))
        async with Client() as client:
            client.executor.submit(empty_job(_fail))
            assert values(await client.start(model(), rows(1))) == [[2, 2]]

    asyncio.run(test())

    assert problems == ["a fault"]


def test_a_caller_that_can_not_take_its_outcome_gets_an_error() -> None:
    """Otherwise its client would wait forever."""
    taken: list[Outcome] = []

    def take(outcome: Outcome) -> None:
        taken.append(outcome)
        if isinstance(outcome, list):
            raise ValueError("can't be encoded")

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        async with Client() as client:
            client.executor.submit(empty_job(take))
            client.executor.run_turn()

    asyncio.run(test())

    assert taken[0] == []
    assert isinstance(taken[1], EngineError)


def test_tells_what_waits_and_what_the_workers_used(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            await client.start(model(counting), count(50_000))
            client.start(model(batch_size=4, min_batch_size=2), rows(1))

            assert client.executor.queue_sizes() == {"CPU": 1}
            (used,) = client.executor.thread_cpu_seconds()["CPU"]
            assert used > 0.001

    run_loop(test)


def _fail(_: Outcome) -> None:
    raise RuntimeError("a fault")


async def _until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)
