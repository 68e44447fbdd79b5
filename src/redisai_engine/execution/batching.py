"""
Joins requests for one model into one run, and splits what comes out.

Requests may join when every input has the same dtype and the same shape but for the first dimension, the batch
dimension, which all inputs of one request share. A batch never harms its members: when a joined run fails, or its
outputs don't have a row for each row that went in, each request runs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from redisai_engine.backends.base import Array, Outputs
from redisai_engine.errors import EngineError, ModelRunError
from redisai_engine.execution.job import Job, RunnableModel

BatchKey = tuple[Any, ...]


def batch_key(model: RunnableModel, inputs: Sequence[Array]) -> BatchKey | None:
    """Gives what requests must have in common to join; None for a request that can only run alone."""
    if not model.batch_size or not inputs or not inputs[0].ndim:
        return None
    # The model itself is in the key: requests for its predecessor under the same name must not join.
    first = inputs[0]
    if len(inputs) == 1:
        return model, first.dtype.char, first.shape[1:]
    rows = first.shape[0]
    if any(not array.ndim or array.shape[0] != rows for array in inputs):
        return None
    return model, *[(array.dtype.char, array.shape[1:]) for array in inputs]


def enough(model: RunnableModel, first_rows: int, all_rows: int) -> bool:
    """Tells whether a batch may run before MINBATCHTIMEOUT: MINBATCHSIZE rows, or a request that fills BATCHSIZE."""
    return all_rows >= model.min_batch_size or first_rows >= model.batch_size


def is_full(model: RunnableModel, rows: int) -> bool:
    """Tells whether a batch takes no more. RedisAI fills until BATCHSIZE is reached, so it may be exceeded."""
    return rows >= model.batch_size and rows >= model.min_batch_size


def run_jobs(jobs: Sequence[Job], stop: Any = None) -> list[Outputs | EngineError]:
    """Runs jobs for one model, together if that works; gives what came of each."""
    model = jobs[0].model
    if model is None:
        return [[] for _ in jobs]
    if len(jobs) > 1 and model.joinable:
        joined = _run_joined(model, jobs, stop)
        if joined is not None:
            return joined
    return [run_alone(model, job.inputs, stop) for job in jobs]


def run_alone(model: RunnableModel, inputs: Sequence[Array], stop: Any = None) -> Outputs | EngineError:
    """Runs one request; an error is a value here, because the neighbours' runs go on."""
    try:
        return model.loaded.run(inputs, stop)
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> EngineError:
    """Gives what a failed run is answered with; a backend's own fault must not take the thread with it."""
    return error if isinstance(error, EngineError) else ModelRunError(f"ERR {type(error).__name__}: {error}")


def join(requests: Sequence[Sequence[Array]]) -> list[Array]:
    """Puts the rows of all requests one after another, input by input."""
    return [np.concatenate(arrays) for arrays in zip(*requests, strict=True)]


def split(outputs: Outputs, rows: Sequence[int]) -> list[Outputs] | None:
    """Gives each request its own rows of every output; None if some output hasn't a row for each."""
    total = sum(rows)
    if any(array is not None and (not array.ndim or array.shape[0] != total) for array in outputs):
        return None
    ends = list(accumulate(rows))
    return [
        [array if array is None else array[end - count : end] for array in outputs]
        for count, end in zip(rows, ends, strict=True)
    ]


def _run_joined(model: RunnableModel, jobs: Sequence[Job], stop: Any) -> list[Outputs | EngineError] | None:
    """Runs all jobs at once; None if each has to run alone."""
    try:
        outputs = model.loaded.run(join([job.inputs for job in jobs]), stop)
    except (EngineError, MemoryError, ValueError):
        return None
    parts = split(outputs, [job.rows for job in jobs])
    if parts is None:
        model.joinable = False
        return None
    return list(parts)
