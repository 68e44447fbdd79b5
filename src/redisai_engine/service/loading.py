"""
Loading of models, and other long computations, in a thread of their own, so that the event loop keeps running.

Invariant: every caller gets one outcome, in the event loop's thread. A model that several callers ask for at the same
time is loaded once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redisai_engine.backends.base import BackendSettings
from redisai_engine.backends.registry import BACKENDS, backend
from redisai_engine.errors import EngineError, ModelLoadError
from redisai_engine.execution.job import RunnableModel
from redisai_engine.protocol import texts
from redisai_engine.redis.store import ModelInfo
from redisai_engine.service.cache import Place
from redisai_engine.service.heap import allocated_bytes, model_bytes
from redisai_engine.service.models import Models

Loaded = Callable[[RunnableModel | EngineError], None]


class Loader:
    """One thread in which frameworks load models and compile scripts, one at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, models: Models, settings: BackendSettings, limit: int) -> None:
        self._loop = loop
        self._limit = limit  # bytes of a blob
        self._models = models
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._waiting: dict[tuple[Place, str], list[Loaded]] = {}

    def load(self, place: Place, meta: ModelInfo, blob: bytes, done: Loaded) -> None:
        """
        Load a model and call `done` with it or with the EngineError.

        `place` is the key that it was read from, or will be stored under. A version that is being loaded for the same
        key is shared.
        """
        loaded = self._models.loaded(*place, meta.id.encode())
        if loaded is not None:  # another connection loaded it while this one was reading the blob
            done(loaded)
            return
        if len(blob) > self._limit:
            done(ModelLoadError(texts.MODEL_OVER_MEMORY % (len(blob), self._limit)))
            return
        waiting = self._waiting.setdefault((place, meta.id), [])
        waiting.append(done)
        if len(waiting) == 1:  # the first caller starts the load; others only wait for it
            future = self._loop.run_in_executor(self._thread, self._load, meta, blob)
            future.add_done_callback(lambda finished: self._loaded(place, meta, finished.result()))

    def compute(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Call `function` in the thread, then `done` with its result or its EngineError."""
        future = self._loop.run_in_executor(self._thread, _outcome_of, function)
        future.add_done_callback(lambda finished: done(finished.result()))

    def close(self) -> None:
        """Finish the current computation, drop the waiting ones and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _load(self, meta: ModelInfo, blob: bytes) -> RunnableModel | EngineError:
        if meta.backend not in BACKENDS:
            return ModelLoadError(texts.UNKNOWN_BACKEND % (meta.backend[:40], ", ".join(BACKENDS)))
        try:
            framework = backend(meta.backend)  # importing it isn't the model's doing
            before = allocated_bytes()
            loaded = framework.load(
                blob, meta.device, inputs=meta.inputs, outputs=meta.outputs, settings=self._settings
            )
            memory = model_bytes(len(blob), allocated_bytes() - before)
        except EngineError as error:
            return error
        except Exception as error:  # a framework's failure must reach the client instead of leaving it waiting
            return ModelLoadError(f"ERR the model can't be loaded: {error}")
        return RunnableModel(
            loaded,
            backend_name=meta.backend,
            device=meta.device,
            batch_size=meta.batch_size,
            min_batch_size=meta.min_batch_size,
            min_batch_timeout_ms=meta.min_batch_timeout_ms,
            memory=memory,
        )

    def _loaded(self, place: Place, meta: ModelInfo, outcome: RunnableModel | EngineError) -> None:
        for done in self._waiting.pop((place, meta.id)):
            done(outcome)


def _outcome_of(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except EngineError as error:
        return error
    except Exception as error:  # any failure must reach the client instead of leaving it waiting
        return EngineError(f"ERR the engine failed on this command: {error!r}")
