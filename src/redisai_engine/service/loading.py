"""
Loading of models, and other long computations, in a thread of their own, so that the event loop keeps running.

Invariant: every caller gets one outcome, in the event loop's thread. A model that several callers ask for at the same
time is loaded once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from redisai_engine.backends.base import BackendSettings
from redisai_engine.backends.registry import NAMES, PYTHON
from redisai_engine.errors import EngineError, ModelLoadError, ProbationFailed
from redisai_engine.execution.hosts.placement import HOST_BYTES, Placement
from redisai_engine.execution.hosts.probation import Candidate, Passed, Probation
from redisai_engine.execution.job import RunnableModel
from redisai_engine.execution.quarantine import Quarantine, digest_of
from redisai_engine.protocol import texts
from redisai_engine.redis.store import ModelInfo
from redisai_engine.service.cache import Place
from redisai_engine.service.encoding import deliver, outcome_of, result_of
from redisai_engine.service.failures import Failures
from redisai_engine.service.memory.heap import allocated_bytes, model_bytes
from redisai_engine.service.models import Models

_log = logging.getLogger(__name__)

Loaded = Callable[[RunnableModel | EngineError], None]

#: A model that takes longer to load than this is a slow one.
_SLOW_SECONDS = 1.0

#: So many digests are remembered as having been named in the log.
_MOST_TOLD = 10_000

#: Commands that store a model, and the place of its backend among their arguments.
_STORES = (b"AI.MODELSTORE", b"AI.MODELSET")
_BACKEND_AT = 2

#: How many processes may load at the same time, so that one that takes long doesn't hold up the others.
_HOSTED_AT_ONCE = 8

#: The same for Python models, whose environments may be built first.
_PYTHON_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Tried:
    """A model that has passed its probation: the digest of its blob, and what is known of it."""

    digest: str
    passed: Passed


class Loader:
    """
    The threads in which models are loaded and scripts compiled.

    One is for frameworks in this process, and another one for models that are known to take long there, which so don't
    hold up the others; more would multiply the memory that loads take. Several wait for processes of models' own, and
    others for Python models, which take seconds.
    `refuse` is told digest and conduct of what fails its probation.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        models: Models,
        placement: Placement,
        quarantine: Quarantine,
        settings: BackendSettings,
        *,
        refuse: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._models = models
        self._placement = placement
        self._quarantine = quarantine
        self._settings = settings
        self._refuse = refuse
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="load-slow")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._waiters = ThreadPoolExecutor(_HOSTED_AT_ONCE, thread_name_prefix="load-hosted")
        self._python = ThreadPoolExecutor(_PYTHON_AT_ONCE, thread_name_prefix="load-python")
        self._waiting: dict[tuple[Place, str], list[Loaded]] = {}
        self._expecting: asyncio.Future[Any] | None = None
        self._failures = Failures()  # of Python models: reading and trying them may take seconds
        self._told: set[str] = set()  # digests of models that are isolated, each of which the log names once

    def try_out(self, meta: ModelInfo, blob: bytes, done: Callable[[Tried | EngineError | None], None]) -> None:
        """Have a model pass its probation and call `done` with what is known then, or with None if it has none."""
        probation = self._probation(meta)
        if probation is None or len(blob) > self._models.limit:  # which `load` refuses
            done(None)
            return
        future = self._loop.run_in_executor(self._waiters, outcome_of, partial(self._tried_out, probation, meta, blob))
        future.add_done_callback(lambda finished: deliver(result_of(finished), [done]))

    def load(
        self,
        place: Place,
        meta: ModelInfo,
        blob: bytes,
        done: Loaded,
        *,
        for_run: bool = False,
        tried: Tried | None = None,
    ) -> None:
        """
        Load a model and call `done` with it or with the EngineError.

        `place` is the key that it was read from, or will be stored under. A version that is being loaded for the same
        key is shared. With `for_run`, what isn't there yet isn't built while the caller waits. `tried` is what
        `try_out` has told of it, if it was called.
        """
        try:
            self.check(place, meta)
        except EngineError as error:
            done(error)
            return
        loaded = self._models.loaded(*place, meta.id.encode())
        if loaded is not None:  # another connection loaded it while this one was reading the blob
            done(loaded)
            return
        if len(blob) > self._models.limit:
            done(ModelLoadError(texts.MODEL_OVER_MEMORY % (len(blob), self._models.limit)))
            return
        waiting = self._waiting.setdefault((place, meta.id), [])
        waiting.append(done)
        if len(waiting) == 1:  # the first caller starts the load; others only wait for it
            task = self._loop.create_task(self._outcome(place, meta, blob, tried, for_run=for_run))
            task.add_done_callback(lambda finished: deliver(result_of(finished), self._waiting.pop((place, meta.id))))

    def check(self, place: Place, meta: ModelInfo) -> None:
        """Raise ModelLoadError for a model that isn't loaded whatever its blob is, so that needn't be read."""
        self._placement.check_key(meta.backend, place[1])
        self._failures.check(place, meta.id)

    def compute(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Call `function`, which compiles a script, in a thread, then `done` with its result or its EngineError."""
        threads = self._waiters if self._placement.is_hosted("TORCH") else self._thread
        future = self._loop.run_in_executor(threads, outcome_of, function)
        future.add_done_callback(lambda finished: deliver(result_of(finished), [done]))

    def expect(self, begun: Sequence[bytes]) -> None:
        """
        Start what a model will be tried out with, if this is the beginning of a command that stores one.

        A failure is told when all of it has arrived.
        """
        if len(begun) <= _BACKEND_AT or begun[0].upper() not in _STORES:
            return
        parent = self._placement.awaited(begun[_BACKEND_AT].decode("latin-1").upper())
        if parent is not None and (self._expecting is None or self._expecting.done()):
            self._expecting = self._loop.run_in_executor(self._waiters, outcome_of, parent.start)

    @property
    def threads(self) -> tuple[ThreadPoolExecutor, ...]:
        """The threads whose heaps have what was loaded."""
        return (self._thread, self._slow)

    def close(self) -> None:
        """Finish the current computations, drop the waiting ones and end the threads. Close the placement first."""
        for threads in (self._thread, self._slow, self._waiters, self._python):
            threads.shutdown(wait=True, cancel_futures=True)

    async def _outcome(
        self, place: Place, meta: ModelInfo, blob: bytes, tried: Tried | None, *, for_run: bool
    ) -> RunnableModel | EngineError:
        """Load a model, and remember why a Python model can't be loaded."""
        outcome = await self._loaded(meta, blob, tried, for_run=for_run)
        if isinstance(outcome, ModelLoadError) and meta.backend == PYTHON:
            self._failures.add(place, meta.id, outcome)
        return outcome

    async def _loaded(
        self, meta: ModelInfo, blob: bytes, tried: Tried | None, *, for_run: bool
    ) -> RunnableModel | EngineError:
        """Load a model in the thread that suits it, after its probation."""
        probation = self._probation(meta)
        if tried is None and probation is not None:
            found = await self._loop.run_in_executor(
                self._waiters, outcome_of, partial(self._tried_out, probation, meta, blob)
            )
            if isinstance(found, EngineError):
                return found
            tried = found
        digest = "" if tried is None else tried.digest
        if tried is not None and tried.passed.danger:
            self._say_isolated(digest, tried.passed.danger)
            meta = replace(meta, isolate=True)
        load = partial(self._load, meta, blob, digest, for_run=for_run)
        return await self._loop.run_in_executor(self._threads(meta, tried), load)

    def _threads(self, meta: ModelInfo, tried: Tried | None) -> ThreadPoolExecutor:
        """Return where to load a model."""
        if meta.backend == PYTHON:
            return self._python
        if self._is_hosted(meta):
            return self._waiters
        return self._slow if tried is not None and tried.passed.seconds > _SLOW_SECONDS else self._thread

    def _probation(self, meta: ModelInfo) -> Probation | None:
        """Return where a model is tried out before it is loaded, if it is."""
        return None if self._is_hosted(meta) else self._placement.probation(meta.backend)

    def _tried_out(self, probation: Probation, meta: ModelInfo, blob: bytes) -> Tried:
        """Have a model pass its probation, and return what is known of it."""
        digest = digest_of(meta.backend, blob)
        self._quarantine.check(meta.id.encode(), digest)
        try:
            return Tried(digest, probation.passed(Candidate(digest, meta.device, blob), self._settings))
        except ProbationFailed as error:
            self._loop.call_soon_threadsafe(self._refuse, digest, error.why)
            raise

    def _say_isolated(self, digest: str, danger: str) -> None:
        if digest not in self._told:
            if len(self._told) >= _MOST_TOLD:
                self._told.clear()
            self._told.add(digest)
            _log.warning("the model with digest %s is served by a process of its own, because %s", digest, danger)

    def _is_hosted(self, meta: ModelInfo) -> bool:
        return self._placement.is_hosted(meta.backend, isolate=meta.isolate)

    def _load(self, meta: ModelInfo, blob: bytes, digest: str, *, for_run: bool) -> RunnableModel | EngineError:
        """Load a model. `digest` is that of the blob, or "" if it isn't known: of a large model it takes a second."""
        if meta.backend not in NAMES:
            return ModelLoadError(texts.UNKNOWN_BACKEND % (meta.backend[:40], ", ".join(NAMES)))
        try:
            return self._load_guarded(meta, blob, digest, for_run=for_run)
        except EngineError as error:
            return error
        except Exception as error:  # a framework's failure must reach the client instead of leaving it waiting
            return ModelLoadError(f"ERR the model can't be loaded: {error}")

    def _load_guarded(self, meta: ModelInfo, blob: bytes, digest: str, *, for_run: bool) -> RunnableModel:
        load = partial(self._load_blob, meta, blob, for_run=for_run)
        if self._is_hosted(meta):  # a crash there is not this process's
            return load()
        digest = digest or digest_of(meta.backend, blob)
        model = self._quarantine.guarded(meta.id.encode(), digest, load)()
        self._quarantine.watch(model, digest)
        return model

    def _load_blob(self, meta: ModelInfo, blob: bytes, *, for_run: bool) -> RunnableModel:
        framework = self._placement.backend(meta.backend, isolate=meta.isolate)  # importing it isn't the model's doing
        if for_run:
            framework.require(blob)
        before = allocated_bytes()
        loaded = framework.load(blob, meta.device, inputs=meta.inputs, outputs=meta.outputs, settings=self._settings)
        grown = allocated_bytes() - before
        return RunnableModel(
            loaded,
            backend_name=meta.backend,
            device=meta.device,
            batch_size=meta.batch_size,
            min_batch_size=meta.min_batch_size,
            min_batch_timeout_ms=meta.min_batch_timeout_ms,
            memory=max(len(blob), loaded.memory or HOST_BYTES)
            if self._is_hosted(meta)
            else model_bytes(len(blob), grown),
        )
