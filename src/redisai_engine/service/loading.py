"""
Loading of models, and other long computations, in a thread of their own, so that the event loop keeps running.

Invariant: every caller gets one outcome, in the event loop's thread. A model that several callers ask for at the same
time is loaded once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from redisai_engine.backends.base import BackendSettings
from redisai_engine.errors import EngineError, ModelLoadError
from redisai_engine.execution.hosts.placement import HOST_BYTES, Placement
from redisai_engine.execution.job import RunnableModel
from redisai_engine.execution.quarantine import Quarantine, digest_of
from redisai_engine.redis.store import ModelInfo
from redisai_engine.service.encoding import deliver, outcome_of, result_of
from redisai_engine.service.models import Models

Loaded = Callable[[RunnableModel | EngineError], None]

#: How many processes may load at the same time, so that one that takes long doesn't hold up the others.
_HOSTED_AT_ONCE = 8


class Loader:
    """
    The threads in which models are loaded and scripts compiled: one for frameworks in this process, one at a time, and
    several that wait for processes of their own.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        models: Models,
        placement: Placement,
        quarantine: Quarantine,
        settings: BackendSettings,
    ) -> None:
        self._loop = loop
        self._models = models
        self._placement = placement
        self._quarantine = quarantine
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._waiters = ThreadPoolExecutor(_HOSTED_AT_ONCE, thread_name_prefix="load-hosted")
        self._waiting: dict[str, list[Loaded]] = {}

    def load(self, meta: ModelInfo, blob: bytes, done: Loaded) -> None:
        """Load a model and call `done` with it or with the EngineError. A model already being loaded is shared."""
        loaded = self._models.loaded(meta.id.encode())
        if loaded is not None:  # another connection loaded it while this one was reading the blob
            done(loaded)
            return
        waiting = self._waiting.setdefault(meta.id, [])
        waiting.append(done)
        if len(waiting) == 1:  # the first caller starts the load; others only wait for it
            threads = self._waiters if self._placement.is_hosted(meta.backend) else self._thread
            future = self._loop.run_in_executor(threads, self._load, meta, blob)
            future.add_done_callback(lambda finished: self._loaded(meta, result_of(finished)))

    def compute(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Call `function`, which compiles a script, in a thread, then `done` with its result or its EngineError."""
        threads = self._waiters if self._placement.is_hosted("TORCH") else self._thread
        future = self._loop.run_in_executor(threads, outcome_of, function)
        future.add_done_callback(lambda finished: deliver(result_of(finished), [done]))

    def close(self) -> None:
        """Finish the current computations, drop the waiting ones and end the threads. Close the placement first."""
        for threads in (self._thread, self._waiters):
            threads.shutdown(wait=True, cancel_futures=True)

    def _load(self, meta: ModelInfo, blob: bytes) -> RunnableModel | EngineError:
        try:
            return self._load_guarded(meta, blob)
        except EngineError as error:
            return error
        except Exception as error:  # a framework's failure must reach the client instead of leaving it waiting
            return ModelLoadError(f"ERR the model can't be loaded: {error}")

    def _load_guarded(self, meta: ModelInfo, blob: bytes) -> RunnableModel:
        load = partial(self._load_blob, meta, blob)
        if self._placement.is_hosted(meta.backend):  # a crash there is not this process's
            return load()
        digest = digest_of(meta.backend, blob)
        model = self._quarantine.guarded(meta.id.encode(), digest, load)()
        self._quarantine.watch(model, digest)
        return model

    def _load_blob(self, meta: ModelInfo, blob: bytes) -> RunnableModel:
        loaded = self._placement.backend(meta.backend).load(
            blob, meta.device, inputs=meta.inputs, outputs=meta.outputs, settings=self._settings
        )
        return RunnableModel(
            loaded,
            backend_name=meta.backend,
            device=meta.device,
            batch_size=meta.batch_size,
            min_batch_size=meta.min_batch_size,
            min_batch_timeout_ms=meta.min_batch_timeout_ms,
        )

    def _loaded(self, meta: ModelInfo, outcome: RunnableModel | EngineError) -> None:
        waiting = self._waiting.pop(meta.id)
        try:
            if not isinstance(outcome, EngineError):
                least = HOST_BYTES if self._placement.is_hosted(meta.backend) else 0
                self._models.keep(meta.id.encode(), outcome, max(meta.blob_size, least))
        finally:  # it is loaded, even if it can't be kept
            deliver(outcome, waiting)
