"""
A prediction by a deployment's mapping: what `mlflow.pyfunc` would answer to a frame, an array, a list or JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redisai_engine.codec.answers import decode
from redisai_engine.codec.errors import AnswerMismatch, CodecError
from redisai_engine.codec.prediction import join, row_count, split
from redisai_engine.commands.budget import reply_budget
from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Encode, Run, RunRequest
from redisai_engine.errors import EngineError
from redisai_engine.execution.job import TIMED_OUT, Job, RunnableModel
from redisai_engine.fronts.http.access.answers import Stopwatch
from redisai_engine.fronts.http.access.connection import Steps
from redisai_engine.fronts.http.access.deployments import ServedDeployment
from redisai_engine.fronts.http.access.failures import RequestRefused, WaitedTooLong, bad_request
from redisai_engine.protocol.tensor import Tensor

#: Containers that are made without pandas, whose import alone would hold up the event loop.
_QUICK = {"ndarray", "list", "dict", "stack"}


def predict(
    client: Client,
    model: RunnableModel,
    deployment: ServedDeployment,
    read: Callable[[], tuple[Any, Any]],
    *,
    deadline: float | None,
    is_large: bool,
    watch: Stopwatch,
) -> Steps[Any]:
    """
    Return the answer to the input that `read` returns: in the event loop, or in a thread if the input `is_large`.

    `read` returns the input twice: as it is encoded, and as MLflow would have seen it, for answers that depend on that.
    It may raise RequestRefused. Raise EngineError, RequestRefused for an input that doesn't match the signature.
    """
    mapping = deployment.mapping

    def encode() -> tuple[Any, int, list[list[Tensor]]]:
        inputs, seen = read()
        with _refusing():
            tensors = deployment.encoder.encode(inputs)
            return seen, row_count(tensors, mapping), split(tensors, mapping)

    seen, rows, requests = (yield Encode(encode)) if is_large else encode()
    watch.end(b"prepare")
    jobs: list[Job] = []
    outcomes = yield Run(
        [RunRequest(model, [tensor.array() for tensor in request]) for request in requests], deadline, jobs=jobs
    )
    size = _size(outcomes)
    watch.ran(jobs)
    reply_budget(client.engine.settings).take(size)

    def answer() -> Any:
        with _refusing():
            tensors = [[Tensor.from_array(outputs[index]) for index in mapping.fetch] for outputs in outcomes]
            return decode(join(tensors, rows), mapping, seen)

    if is_large or mapping.answer.container not in _QUICK:
        return (yield Encode(answer))
    return answer()


def _size(outcomes: Sequence[Any]) -> int:
    """Return how many bytes the outputs of runs have. Raise the error of the first run that failed."""
    size = 0
    for outcome in outcomes:
        if outcome is TIMED_OUT:
            raise WaitedTooLong
        if isinstance(outcome, EngineError):
            raise outcome
        size += sum(array.nbytes for array in outcome if array is not None)
    return size


class _refusing:  # used as a statement
    """Turns the codec's errors into those of HTTP."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, frames: Any) -> None:
        if isinstance(error, AnswerMismatch):
            raise RequestRefused(503, str(error)) from None
        if isinstance(error, CodecError):
            raise bad_request(str(error)) from None
