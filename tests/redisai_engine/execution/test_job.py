"""How a model's run time is learned, and what a job knows about itself."""

from __future__ import annotations

import numpy as np
import pytest

from redisai_engine.backends.base import LoadedModel
from redisai_engine.execution.job import SHORT_RUN_SECONDS, Job, form_of, joined_form
from support.execution import Observed, count, rows

FORM = (2, 2)


@pytest.fixture
def double_of(doubling: LoadedModel) -> LoadedModel:
    """A model of its own that doubles."""
    return Observed(doubling)


def test_an_unknown_run_is_not_short(model) -> None:
    assert not model().is_short(FORM)


def test_a_slow_first_run_is_forgotten_soon(model) -> None:
    """A session's first run allocates memory and optimizes."""
    learned = model()

    for seconds in (1e-3, 2e-5, 2e-5, 2e-5):
        learned.measured(FORM, seconds)

    assert learned.is_short(FORM)


def test_interrupted_runs_do_not_make_a_model_long(model) -> None:
    learned = model()
    learned.measured(FORM, 2e-5)

    for _ in range(3):
        learned.measured(FORM, 0.5)

    assert learned.is_short(FORM)


def test_a_model_that_became_long_is_noticed(model) -> None:
    learned = model()
    learned.measured(FORM, 2e-5)

    for _ in range(10):
        learned.measured(FORM, 10 * SHORT_RUN_SECONDS)

    assert not learned.is_short(FORM)


def test_time_is_known_by_the_shapes_of_the_inputs(model) -> None:
    """Equally many elements can mean more work: a column times a row is a table."""
    learned = model()

    learned.measured((1, 4000), 1e-5)
    learned.measured((4000, 1), 1e-2)

    assert [learned.is_short(form) for form in ((1, 4000), (4000, 1), (1, 4001))] == [True, False, False]


def test_no_more_forms_are_remembered_than_a_model_is_likely_to_need(model) -> None:
    learned = model()

    for rows_ in range(5000):
        learned.measured((rows_, 3), 1e-5)

    assert sum(learned.is_short((rows_, 3)) for rows_ in range(5000)) <= 1024


def test_a_model_whose_time_depends_on_values_is_never_short(model, counting: LoadedModel) -> None:
    learned = model(counting)

    learned.measured(FORM, 1e-5)

    assert not learned.is_short(FORM)


def test_a_brief_run_that_took_long_once_is_not_expected_to_be_brief_again(model) -> None:
    learned = model()
    learned.measured(FORM, 1e-3)
    before = learned.is_brief(FORM)

    learned.measured(FORM, 1.0)
    for _ in range(10):
        learned.measured(FORM, 1e-3)

    assert (before, learned.is_brief(FORM)) == (True, False)


def test_a_run_stopped_in_the_event_loop_sends_its_form_to_the_threads_and_three_the_model(model, double_of) -> None:
    learned = model(double_of)
    for form in ((1,), (2,), (3,)):
        learned.measured(form, 1e-5)

    learned.overran((1,))
    first = [learned.is_short((1,)), learned.is_short((2,))]
    learned.overran((2,))
    learned.overran((2,))

    assert (first, learned.is_short((3,))) == ([False, True], False)


@pytest.mark.parametrize(
    ("device", "queue"),
    [
        ("cpu", "CPU"),
        ("CPU:", "CPU"),
        ("CPU:0", "CPU"),
        ("cpu:17", "CPU"),
        ("CPUabc", "CPU"),
        ("GPUabc", "GPU"),
        ("gpu:x", "GPU"),
        ("GPU:" + 5000 * "1", "GPU:111111111"),
        ("GPU", "GPU"),
        ("gpu:0", "GPU"),
        ("GPU:00", "GPU"),
        ("gpu:1", "GPU:1"),
        ("GPU:01", "GPU:1"),
    ],
)
def test_a_device_has_one_queue_however_it_is_spelled(model, device: str, queue: str) -> None:
    assert Job(model(device=device), rows(1), None, print).device == queue


def test_a_job_s_form_is_the_shape_of_each_input(model) -> None:
    jobs = [Job(model(), inputs, None, print) for inputs in ([], rows(1, 2), count(5))]

    assert [job.form for job in jobs] == [(), (2, 2), ((1,), (1,))]


def test_the_form_of_text_tells_the_order_of_its_length() -> None:
    short, longer, long = (np.array(["ab", "c" * size], object) for size in (1, 2, 500))

    forms = [form_of([text], with_text=True) for text in (short, longer, long)]

    assert forms == [(((2,), 2),), (((2,), 3),), (((2,), 9),)]


def test_the_form_of_joined_jobs_is_that_of_their_rows_together(model) -> None:
    jobs = [Job(model(), inputs, None, print) for inputs in (rows(1), rows(2, 3))]
    for job in jobs:
        job.rows = len(job.inputs[0])

    assert [joined_form(jobs[:1]), joined_form(jobs)] == [(1, 2), (3, 2)]


def test_texts_in_any_number_of_dimensions_have_a_form() -> None:
    """NumPy has up to 64, of which it iterates over 32."""
    texts = np.full((1,) * 40, "four", "O")

    assert form_of([texts], with_text=True) == (((1,) * 40, 3),)
