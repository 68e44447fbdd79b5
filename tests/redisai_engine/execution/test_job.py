"""How a model's run time is learned, and what a job knows about itself."""

from __future__ import annotations

from redisai_engine.backends.base import LoadedModel
from redisai_engine.execution.job import SHORT_RUN_SECONDS, Job
from support.execution import count, rows


def test_an_unknown_run_is_not_short(model) -> None:
    assert not model().is_short(4)


def test_a_slow_first_run_is_forgotten_soon(model) -> None:
    """A session's first run allocates memory and optimizes."""
    learned = model()

    for seconds in (1e-3, 2e-5, 2e-5, 2e-5):
        learned.measured(4, seconds)

    assert learned.is_short(4)


def test_interrupted_runs_do_not_make_a_model_long(model) -> None:
    learned = model()
    learned.measured(4, 2e-5)

    for _ in range(3):
        learned.measured(4, 0.5)

    assert learned.is_short(4)


def test_a_model_that_became_long_is_noticed(model) -> None:
    learned = model()
    learned.measured(4, 2e-5)

    for _ in range(10):
        learned.measured(4, 10 * SHORT_RUN_SECONDS)

    assert not learned.is_short(4)


def test_time_is_known_by_the_size_of_the_inputs(model) -> None:
    learned = model()

    learned.measured(4, 1e-5)
    learned.measured(4000, 1e-2)

    assert [learned.is_short(size) for size in (5, 4000, 4_000_000)] == [True, False, False]


def test_a_model_whose_time_depends_on_values_is_never_short(model, counting: LoadedModel) -> None:
    learned = model(counting)

    learned.measured(2, 1e-5)

    assert not learned.is_short(2)


def test_a_job_goes_to_its_model_s_device_in_any_letter_case(model) -> None:
    jobs = [Job(model(device="gpu:1"), rows(1), None, print), Job(None, [], None, print, "cpu:1")]

    assert [job.device for job in jobs] == ["GPU:1", "CPU:1"]


def test_a_job_s_size_is_that_of_all_inputs(model) -> None:
    assert [Job(model(), inputs, None, print).elements for inputs in ([], rows(1, 2), count(5))] == [0, 4, 2]
