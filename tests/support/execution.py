"""Submitting jobs to a real executor as the engine does, and watching real models run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redisai_engine.backends import registry
from redisai_engine.backends.base import Array, BackendSettings, LoadedModel, Outputs, Stop
from redisai_engine.execution.executor import Executor
from redisai_engine.execution.job import Job, Outcome, RunnableModel, form_of


def load_onnx(blob: bytes) -> LoadedModel:
    return registry.backend("ONNX").load(blob, "CPU", inputs=(), outputs=(), settings=BackendSettings())


def rows(*values: float, width: int = 2) -> list[Array]:
    """Return the input for `doubling`: one row per value."""
    return [np.repeat(np.array(values, np.float32)[:, None], width, axis=1)]


def count(times: int) -> list[Array]:
    """Return the input that makes `counting` count that far; a count takes about a microsecond."""
    return [np.array([times], np.int64), np.zeros(1, np.float32)]


def empty_job(done: Callable[[Outcome], None]) -> Job:
    """Return a job that runs nothing. Its outcome is []."""
    return Job(None, [], None, done)


class Client:
    """Submits jobs as the engine does, and returns a future for each outcome."""

    def __init__(self, **settings: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.executor = Executor(self.loop, **settings)
        #: The names of the jobs, in the order of their outcomes.
        self.order: list[str] = []

    def submit(
        self, model: RunnableModel | None, inputs: list[Array], *, timeout_ms: float | None = None, name: str = ""
    ) -> asyncio.Future[Outcome]:
        outcome: asyncio.Future[Outcome] = self.loop.create_future()

        def done(value: Outcome) -> None:
            self.order.append(name)
            outcome.set_result(value)  # raises if called a second time

        deadline = None if timeout_ms is None else self.loop.time() + timeout_ms / 1000
        self.executor.submit(Job(model, inputs, deadline, done))
        return outcome

    def start(self, *arguments: Any, **options: Any) -> asyncio.Future[Outcome]:
        """Submit one job and end the turn."""
        outcome = self.submit(*arguments, **options)
        self.executor.run_turn()
        return outcome

    async def learn(self, model: RunnableModel, inputs: list[Array]) -> None:
        """Run a model until its run time is known, on a busy machine too."""
        form = form_of(inputs, with_text=model.takes_text)
        for runs in range(200):
            if runs >= 20 and model.is_short(form):
                return
            await self.start(model, inputs)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.executor.close()


class Observed(LoadedModel):
    """A model that records which thread ran it and how many rows it got, and that can be held up."""

    def __init__(
        self, loaded: LoadedModel, *, gate: threading.Barrier | None = None, steady: bool | None = None
    ) -> None:
        self.inputs, self.outputs = loaded.inputs, loaded.outputs
        self.steady = loaded.steady if steady is None else steady
        self.threads: list[str] = []
        self.batches: list[int] = []
        self._loaded = loaded
        self._gate = gate

    def new_stop(self) -> Stop | None:
        return self._loaded.new_stop()

    def run(self, arrays: Sequence[Array], stop: Any = None) -> Outputs:
        self.threads.append(threading.current_thread().name)
        self.batches.append(arrays[0].shape[0])
        if self._gate is not None:
            self._gate.wait(30)
        return self._loaded.run(arrays, stop)
