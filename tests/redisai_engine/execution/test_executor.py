"""Jobs on real event loops, real threads and real models: what runs where and when, and what comes back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from redisai_engine.errors import EngineClosing, EngineError, ModelRunError, QueueFull
from redisai_engine.execution.device_queue import DeviceQueue
from redisai_engine.execution.job import TIMED_OUT, Batch, Job, Outcome
from redisai_engine.execution.threads import Crew
from support.execution import Client, Observed, count, empty_job, load_onnx, rows
from support.tiny_models import onnx_counter
from support.waiting import until

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


def test_a_short_job_runs_in_the_event_loop_while_a_long_one_of_another_model_runs(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            short = model()
            await client.learn(short, rows(1))

            long = client.start(model(counting), count(10**12))
            outcomes = [client.start(short, rows(1)) for _ in range(100)]

            assert all(outcome.done() for outcome in outcomes)
            assert not long.done()

    run_loop(test)


def test_whoever_comes_does_not_wait_behind_a_model_that_is_never_through(run_loop, model, counting) -> None:
    """Neither for a run of unknown length nor for one that only a thread may do."""

    async def test() -> None:
        async with Client(execution_timeout_ms=0) as client:
            endless = model(counting)
            saturating = [client.start(endless, count(10**12)) for _ in range(20)]

            outcomes = [await client.start(model(counting), count(3)) for _ in range(20)]

            assert [values(outcome) for outcome in outcomes] == [[3.0]] * 20
            assert not any(outcome.done() for outcome in saturating)

    run_loop(test)


def test_a_model_s_own_jobs_keep_their_order(run_loop, model, doubling) -> None:
    """A short job doesn't overtake one that waits for a thread because its form is new."""

    async def test() -> None:
        async with Client(threads_per_queue=1) as client:
            runnable = model(Observed(doubling))
            await client.learn(runnable, rows(1))
            client.order.clear()

            outcomes = [client.submit(runnable, rows(*range(n)), name=str(n)) for n in (3, 1, 1)]
            client.executor.run_turn()
            await asyncio.gather(*outcomes)

            assert client.order == ["3", "1", "1"]

    run_loop(test)


@pytest.mark.parametrize("devices", [("CPU", "CPU"), ("CPU", "GPU:1")])
def test_runs_of_two_models_overlap_whatever_their_devices(run_loop, model, doubling, devices: tuple[str, str]) -> None:
    """Each run waits until the other has started."""

    async def test() -> None:
        async with Client(threads_per_queue=1) as client:
            observed = Observed(doubling, gate=threading.Barrier(2))

            outcomes = [client.start(model(observed, device=device), rows(1)) for device in devices]

            assert [values(outcome) for outcome in await asyncio.gather(*outcomes)] == [[[2, 2]]] * 2

    run_loop(test)


def test_timeout_removes_a_job_that_waits_behind_a_long_one(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client(threads_per_queue=1) as client:
            runnable = model(counting)
            long = client.start(runnable, count(10**12))
            late = client.start(runnable, count(1), timeout_ms=20)

            assert await late is TIMED_OUT
            assert not long.done()
            assert runnable.statistics.calls == 0

    run_loop(test)


@pytest.mark.slow
def test_timeout_does_not_touch_a_run_that_began_in_time(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client(execution_timeout_ms=0) as client:
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


def test_what_waits_together_runs_together(run_loop, model, doubling) -> None:
    async def test() -> None:
        async with Client() as client:
            observed = Observed(doubling)
            batched = model(observed, batch_size=4)
            batched.is_row_wise = True  # else it would be tried alone, too

            outcomes = [client.submit(batched, rows(i)) for i in range(6)]
            client.executor.run_turn()

            assert [values(outcome) for outcome in await asyncio.gather(*outcomes)] == [[[2 * i] * 2] for i in range(6)]
            assert observed.batches == [4, 2]
            assert (batched.statistics.calls, batched.statistics.samples) == (6, 6)

    run_loop(test)


def test_batches_form_in_the_event_loop_too(run_loop, model, doubling) -> None:
    async def test() -> None:
        async with Client() as client:
            observed = Observed(doubling)
            batched = model(observed, batch_size=4)
            batched.is_row_wise = True
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
            fine = client.start(model(counting), count(1000))

            assert isinstance(await long, ModelRunError)
            assert values(await fine) == [1000.0]
            assert values(await client.start(model(counting), count(1000))) == [1000.0]

    run_loop(test)


def test_beyond_the_queue_s_limit_jobs_are_refused(run_loop, model) -> None:
    async def test() -> None:
        async with Client(queue_limit=2) as client:
            batched = model(batch_size=9, min_batch_size=3)
            waiting = [client.start(batched, rows(1)) for _ in range(2)]

            refused = await client.start(batched, rows(1))

            assert isinstance(refused, QueueFull)
            assert refused.wire == (
                "ERR the queue of device CPU is full: 2 requests for this model are waiting; try again later"
            )
            assert not any(outcome.done() for outcome in waiting)
            assert values(await client.start(model(), rows(1))) == [[2, 2]]  # the queue of another model isn't full

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


def test_a_job_without_a_model_waits_for_nothing(run_loop, model, counting) -> None:
    async def test() -> None:
        async with Client() as client:
            client.start(model(counting), count(10**12))

            assert client.start(None, []).result() == []
            assert client.start(None, [], timeout_ms=-1).result() is TIMED_OUT

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


def test_short_jobs_stay_in_the_event_loop_while_a_thread_is_busy(run_loop, model, doubling, counting) -> None:
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
            slow = model(counting, device="GPU:1")
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


def test_a_time_that_is_all_but_over_wakes_the_queue_like_any_other(run_loop, model) -> None:
    """An event loop treats a timer of less than half a millisecond as one that is due."""

    async def test() -> None:
        async with Client() as client:
            outcomes = []
            for _ in range(200):
                runnable = model(batch_size=8, min_batch_size=8)
                outcomes += [client.start(runnable, rows(each), timeout_ms=0.2) for each in (1, 2)]
                await asyncio.sleep(0)

            assert set(await asyncio.gather(*outcomes)) == {TIMED_OUT}

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
        client = Client(threads_per_queue=1)
        runnable = model(counting)
        running = client.start(runnable, count(10**12))
        await until(lambda: client.executor.queue_sizes() == {"CPU": 0})
        waiting = client.start(runnable, count(1))  # another deployment's would have a thread of its own

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
            used, unused = client.executor.thread_cpu_seconds()["CPU"]
            assert used > 0.001
            assert unused == 0.0

    run_loop(test)


def test_a_run_that_can_not_be_stopped_is_answered_and_holds_up_nobody(run_loop, model, doubling, caplog) -> None:
    """The model waits at a gate, as a kernel that never looks at the switch."""

    async def test() -> None:
        async with Client(threads_per_queue=1, execution_timeout_ms=50) as client:
            gate = threading.Barrier(2)
            stuck = model(Observed(doubling, gate=gate))
            first, behind = client.start(stuck, rows(1)), client.start(stuck, rows(2))

            outcomes = [await first, await behind, await client.start(stuck, rows(3))]
            others = [await client.start(model(), rows(1)) for _ in range(3)]
            gate.wait(30)
            await until(lambda: not stuck.share.stuck)
            gate.abort()  # so that later runs fail instead of waiting
            again = await client.start(stuck, rows(3))

            behind_it = (
                "ERR another run of this model takes longer than the 50 ms that are allowed and can't be stopped; "
                "until it ends, the model isn't run"
            )
            assert [outcome.wire for outcome in outcomes if isinstance(outcome, EngineError)] == [
                "ERR the run takes longer than the 50 ms that are allowed and can't be stopped",
                behind_it,
                behind_it,
            ]
            assert [values(outcome) for outcome in others] == [[[2, 2]]] * 3
            assert "BrokenBarrierError" in str(again)
            assert stuck.statistics.errors == 2

    with caplog.at_level("WARNING"):
        run_loop(test)

    assert caplog.messages[0] == (
        "a run on CPU takes longer than 50 ms and can't be stopped; it keeps a thread until it ends (1 of 16)"
    )


def test_close_does_not_wait_for_a_run_that_can_not_be_stopped(run_loop, model, doubling) -> None:
    gate = threading.Barrier(2)

    async def test() -> None:
        client = Client()
        outcome = client.start(model(Observed(doubling, gate=gate)), rows(1))
        await until(lambda: client.executor.queue_sizes() == {"CPU": 0})

        client.executor.close()

        assert isinstance(outcome.result(), EngineClosing)

    run_loop(test)
    gate.abort()


def test_a_run_in_the_event_loop_that_takes_too_long_is_stopped_and_repeated_in_a_thread(run_loop, model) -> None:
    """The backend believes that the model is steady. It is wrong."""

    async def test() -> None:
        async with Client(loop_limit_seconds=0.01, execution_timeout_ms=60_000) as client:
            observed = Observed(load_onnx(onnx_counter()), steady=True)
            wrong = model(observed)
            await client.learn(wrong, count(1))

            outcome = client.start(wrong, count(300_000))
            at_once = outcome.done()

            assert values(await outcome) == [300_000.0]
            assert not at_once
            assert observed.threads[-2:] == [LOOP_THREAD, "CPU-1"]
            assert wrong.statistics.errors == 0

    run_loop(test)


def test_idle_threads_end_and_others_are_started_when_needed(run_loop, model, counting) -> None:
    async def test() -> None:
        queue = DeviceQueue("CPU", threads=2, limit=9)
        finished: list[Batch] = []
        crew = Crew(queue, finished.append, idle_seconds=0.001)
        for times in (5, 6):
            runnable = model(counting)
            with queue.lock:
                queue.put(runnable, Job(runnable, count(times), None, print), 0.0)
                crew.staff()
            await until(lambda: not [thread for thread in threading.enumerate() if thread.name == "CPU-1"])

        assert [values(outcome) for batch in finished for outcome in batch.outcomes] == [[5.0], [6.0]]

    run_loop(test)


def test_many_device_names_make_few_threads(run_loop, model, counting) -> None:
    async def test() -> None:
        before = threading.active_count()
        async with Client() as client:
            for number in range(200):
                await client.start(model(counting, device=f"CPU:{number}"), count(1))

            assert threading.active_count() - before < 12
            assert list(client.executor.queue_sizes()) == ["CPU"]

    run_loop(test)


def _fail(_: Outcome) -> None:
    raise RuntimeError("a fault")
