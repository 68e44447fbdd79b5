"""
Batching: requests for one model are joined into one run, whose outputs are split among them.

Requests can be joined if their inputs have the same dtypes and the same shapes except for the first dimension, the
batch dimension, which is equal in all inputs of one request.

Invariant: a batch never harms its members. If a joined run fails, or an output doesn't have one row per input row, each
request runs alone. The first joined run of a model counts only if its outermost requests get the same answers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from redisai_engine.backends.base import Array, Outputs
from redisai_engine.errors import EngineError, ModelRunError, forget_frames
from redisai_engine.execution.job import Job, RunnableModel

_ROUNDING = 1e-3  # by which an answer may depend on how many rows are computed together

BatchKey = tuple[Any, ...]


def batch_key(model: RunnableModel, inputs: Sequence[Array]) -> BatchKey | None:
    """Return a key that is equal for requests that can be joined, or None for a request that can only run alone."""
    if not model.batch_size or not inputs or not inputs[0].ndim:
        return None
    # The key contains the model itself, not its name: requests for another version under that name must not join.
    first = inputs[0]
    if model.loaded.takes_parcels and first.ndim == 1 and first.dtype.char == "B":
        return None
    if len(inputs) == 1:
        return model, first.dtype.char, first.shape[1:]
    rows = first.shape[0]
    if any(not array.ndim or array.shape[0] != rows for array in inputs):
        return None
    return model, *[(array.dtype.char, array.shape[1:]) for array in inputs]


def enough(model: RunnableModel, first_rows: int, all_rows: int) -> bool:
    """
    Return whether a batch may run without waiting for MINBATCHTIMEOUT.

    It may with MINBATCHSIZE rows, or if the first request alone fills BATCHSIZE.
    """
    return all_rows >= model.min_batch_size or first_rows >= model.batch_size


def is_full(model: RunnableModel, rows: int) -> bool:
    """Return whether a batch takes no more requests. As in RedisAI, the last one may exceed BATCHSIZE."""
    return rows >= model.batch_size and rows >= model.min_batch_size


def run_jobs(jobs: Sequence[Job], stop: Any = None) -> list[Outputs | EngineError]:
    """Run jobs for one model, together if possible. Return the outcome of each."""
    model = jobs[0].model
    assert model is not None  # jobs without one aren't queued
    if len(jobs) > 1 and model.joinable:
        joined = _run_joined(model, jobs, stop)
        if joined is not None:
            return joined
    return [run_alone(model, job.inputs, stop) for job in jobs]


def run_alone(model: RunnableModel, inputs: Sequence[Array], stop: Any = None) -> Outputs | EngineError:
    """Run one request. Return an error instead of raising it, because the other requests of the batch still run."""
    try:
        return model.loaded.run(inputs, stop)
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> EngineError:
    """Return the error to answer a failed run with. A bug in a backend must not end the thread."""
    if not isinstance(error, EngineError):
        return ModelRunError(f"ERR {type(error).__name__}: {error}")
    forget_frames(error)
    return error


def join(requests: Sequence[Sequence[Array]]) -> list[Array]:
    """Concatenate the rows of all requests, input by input."""
    return [np.concatenate(arrays) for arrays in zip(*requests, strict=True)]


def split(outputs: Outputs, rows: Sequence[int]) -> list[Outputs] | None:
    """
    Return each request's own rows of every output. `rows` has the number of rows of each request.

    Return None if an output doesn't have one row per input row.
    """
    total = sum(rows)
    if any(array is not None and (not array.ndim or array.shape[0] != total) for array in outputs):
        return None
    ends = list(accumulate(rows))
    return [[_rows_of(array, end - count, end) for array in outputs] for count, end in zip(rows, ends, strict=True)]


def _rows_of(array: Array | None, start: int, end: int) -> Array | None:
    return None if array is None else array[start:end]


def _run_joined(model: RunnableModel, jobs: Sequence[Job], stop: Any) -> list[Outputs | EngineError] | None:
    """Run all jobs in one run. Return None if each has to run alone."""
    try:
        outputs = model.loaded.run(join([job.inputs for job in jobs]), stop)
    except (EngineError, MemoryError, ValueError):  # the last two come from NumPy, on inputs that it can't join
        return None
    parts = split(outputs, [job.rows for job in jobs])
    if parts is not None and not model.is_row_wise:
        ends = (0, -1)  # whatever runs from row to row shows at one of the two
        alone = [run_alone(model, jobs[end].inputs, stop) for end in ends]
        if any(isinstance(outcome, EngineError) for outcome in alone):
            return None
        model.is_row_wise = all(_are_alike(outcome, parts[end]) for outcome, end in zip(alone, ends, strict=True))
    if parts is None or not model.is_row_wise:  # which won't change: don't try again
        model.joinable = False
        return None
    return list(parts)


def _are_alike(alone: Any, joined: Outputs) -> bool:
    """
    Return whether a request got the same answer in a joined run as alone, apart from rounding.

    A transposed output may happen to have as many rows as the input, and a row may depend on its neighbours.
    """
    return all(map(_is_alike, alone, joined))


def _is_alike(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return one is other
    if one.dtype.kind not in "fc":
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True))
