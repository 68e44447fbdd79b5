"""Which requests may be batched, how they are joined and split, and what a failed batch does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from redisai_engine.backends.base import Array, LoadedModel, Outputs
from redisai_engine.errors import ModelRunError
from redisai_engine.execution.batching import batch_key, enough, is_full, join, run_jobs, split
from redisai_engine.execution.job import Job, RunnableModel


def job(model: RunnableModel, *inputs: Array) -> Job:
    made = Job(model, list(inputs), None, lambda _: None)
    made.rows = inputs[0].shape[0]
    return made


def array(*shape: int, dtype: str = "f4") -> Array:
    return np.ones(shape, dtype)


def test_requests_that_differ_in_rows_only_may_join(model) -> None:
    batched = model(batch_size=4)

    assert batch_key(batched, [array(1, 3), array(1)]) == batch_key(batched, [array(9, 3), array(9)])


@pytest.mark.parametrize(
    "other",
    [[array(1, 4)], [array(1, 3, 1)], [array(1, 3, dtype="f8")], [array(1, 3), array(1, 3)]],
    ids=["width", "rank", "dtype", "number of inputs"],
)
def test_other_shapes_and_dtypes_do_not_join(model, other: list[Array]) -> None:
    """RedisAI joins different dtypes and returns wrong numbers."""
    batched = model(batch_size=4)

    assert batch_key(batched, [array(1, 3)]) != batch_key(batched, other)


def test_a_model_stored_anew_does_not_join_its_predecessor(model) -> None:
    assert batch_key(model(batch_size=4), [array(1, 3)]) != batch_key(model(batch_size=4), [array(1, 3)])


@pytest.mark.parametrize(
    "inputs", [[], [np.float32(1).reshape(())], [array(2, 3), array(1, 3)], [array(2, 3), np.float32(1).reshape(())]]
)
def test_inputs_without_a_common_batch_dimension_run_alone(model, inputs: list[Array]) -> None:
    assert batch_key(model(batch_size=4), inputs) is None


def test_without_batchsize_all_run_alone(model) -> None:
    assert batch_key(model(), [array(1, 3)]) is None


@pytest.mark.parametrize(
    ("sizes", "first", "total", "expected"),
    [
        ((4, 0), 1, 1, True),
        ((4, 2), 1, 1, False),
        ((4, 2), 1, 2, True),
        ((4, 2), 2, 2, True),
        ((2, 9), 5, 5, True),
        ((4, 9), 1, 8, False),
    ],
)
def test_minbatchsize_counts_rows(model, sizes: tuple[int, int], first: int, total: int, expected: bool) -> None:  # noqa: FBT001
    assert enough(model(batch_size=sizes[0], min_batch_size=sizes[1]), first, total) is expected


def test_a_batch_is_full_at_batchsize(model) -> None:
    batched = model(batch_size=4, min_batch_size=2)

    assert [is_full(batched, rows) for rows in (2, 3, 4, 7)] == [False, False, True, True]


def test_join_and_split_are_inverse() -> None:
    requests = [[array(n, 2) * n, np.arange(n)] for n in (1, 3, 2)]

    parts = split(list(join(requests)), [1, 3, 2])

    assert parts is not None
    for request, part in zip(requests, parts, strict=True):
        for expected, actual in zip(request, part, strict=True):
            np.testing.assert_array_equal(expected, actual)


def test_join_keeps_text() -> None:
    (joined,) = join([[np.array([["a", "bb"]], object)], [np.array([["ccc", "ö"]], object)]])

    assert joined.tolist() == [["a", "bb"], ["ccc", "ö"]]


def test_an_output_that_is_no_tensor_is_left_out_for_all() -> None:
    assert split([None, array(2, 1)], [1, 1]) == [[None, array(1, 1)], [None, array(1, 1)]]


@pytest.mark.parametrize("output", [array(1, 2), array(4, 2), np.float32(1).reshape(())])
def test_outputs_without_a_row_for_each_are_not_split(output: Array) -> None:
    assert split([array(3, 2), output], [1, 2]) is None


def test_jobs_run_as_one(model) -> None:
    batched = model(batch_size=4)

    outcomes = run_jobs([job(batched, array(1, 3)), job(batched, array(2, 3) * 5)])

    assert [outcome[0].tolist() for outcome in outcomes] == [[[2.0] * 3], [[10.0] * 3] * 2]


def test_a_bad_request_does_not_fail_its_neighbours(model, picking: LoadedModel) -> None:
    """RedisAI answers the whole batch with the error."""
    batched = model(picking, batch_size=4)
    inputs = [np.array([1]), np.array([7]), np.array([4, 0])]

    first, second, third = run_jobs([job(batched, x) for x in inputs])

    assert first[0].tolist() == [10.0]
    assert isinstance(second, ModelRunError)
    assert third[0].tolist() == [40.0, 0.0]
    assert batched.joinable


def test_a_model_whose_outputs_cannot_be_split_runs_each_request_alone(model, summing: LoadedModel) -> None:
    """RedisAI crashes, or answers "Model did not generate the expected batch size"."""
    batched = model(summing, batch_size=4)

    outcomes = run_jobs([job(batched, array(2, 2) * 3), job(batched, array(1, 2) * 5)])

    assert [outcome[0].tolist() for outcome in outcomes] == [[[3.0, 3.0]], [[5.0, 5.0]]]
    assert not batched.joinable


class Computing(LoadedModel):
    """Returns what a function makes of the input."""

    def __init__(self, function: Callable[[Array], Array]) -> None:
        self._function = function
        self.runs = 0

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        self.runs += 1
        return [self._function(arrays[0])]


@pytest.mark.parametrize(
    "function",
    [np.transpose, lambda x: x - x.mean(axis=0), lambda x: x[::-1], lambda x: np.cumsum(x, axis=0), np.unique],
    ids=["transposed", "centred", "reversed", "summed up", "sorted"],
)
@pytest.mark.parametrize("rows", [1, 2])
def test_a_model_whose_rows_depend_on_each_other_runs_each_request_alone(
    model, function: Callable[[Array], Array], rows: int
) -> None:
    """Although as many rows come out as went in: four requests fill a square with their four columns."""
    batched = model(Computing(function), batch_size=4)
    inputs = [np.arange(4 * rows, dtype="f4").reshape(rows, 4) + 100 * k for k in range(1, 4 // rows + 1)]

    outcomes = run_jobs([job(batched, each) for each in inputs])

    assert [outcome[0].tolist() for outcome in outcomes] == [function(each).tolist() for each in inputs]
    assert not batched.joinable


def test_a_model_whose_rows_are_independent_is_tried_alone_at_first(model) -> None:
    doubling = Computing(lambda x: x * 2)
    batched = model(doubling, batch_size=4)

    for _ in range(3):
        run_jobs([job(batched, array(1, 3)), job(batched, array(2, 3))])

    assert doubling.runs == 3 + 2
    assert batched.joinable
