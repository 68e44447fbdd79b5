"""
The port for Prometheus, in the process that can answer for all: the only one, or the parent of the workers.

Invariant: without `metrics-port` nothing of this is imported.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redisai_engine.config import Settings
from redisai_engine.errors import StartError
from redisai_engine.watching.measuring import Samples, as_json
from redisai_engine.watching.totals import Sums, Totals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redisai_engine.process.workers import Workers

_PATIENCE_SECONDS = 10.0

Gather = Callable[[], Coroutine[Any, Any, Totals]]


@contextmanager
def metrics_port(settings: Settings, gather: Gather) -> Iterator[int]:
    """
    Answer Prometheus during the block, if that is wanted. Yield the port, or 0.

    `gather` returns the metrics, in the event loop. Raise StartError if the port can't be had, or a package is missing.
    """
    if not settings.metrics_port:
        yield 0
        return
    try:
        from redisai_engine.watching.port import MetricsPort
    except ImportError as error:
        raise StartError(
            f"metrics-port needs the package {error.name}, which isn't installed; pip install 'mlflow-redisai[engine]'"
        ) from None
    loop = asyncio.get_running_loop()

    def collect() -> Totals:
        """Return the metrics in any other thread than the event loop's. Raise TimeoutError."""
        asked = asyncio.run_coroutine_threadsafe(gather(), loop)
        try:
            return asked.result(_PATIENCE_SECONDS)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            asked.cancel()
            raise TimeoutError from None

    port = MetricsPort(settings.bind, settings.metrics_port, collect, triton=settings.metrics_compat == "triton")
    try:
        yield port.port
    finally:
        port.close()


class WorkersMetrics:
    """The metrics of all workers together."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._sums = Sums()

    async def gather(self) -> Totals:
        """Ask all workers and return the totals."""
        told: dict[str, Samples] = {}
        for answer in await self._workers.ask({"metrics": True}):
            if isinstance(answer, dict) and "process" in answer:
                told[str(answer["process"])] = as_json(answer.get("samples"))
        totals = self._sums.of(told)
        totals["redisai_worker_restarts_total"] = {(): self._workers.restarts}
        return totals
