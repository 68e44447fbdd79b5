"""
What all connections share: settings, the models in memory, the queues, and the turn of the event loop.

Theory of operation of a turn. Callbacks of the event loop only read and parse; a connection that has something to do
is *touched*. Once per turn of the loop `_end_of_turn` does three things for all touched connections: it dispatches
their requests, runs the models that are short (`Executor.run_turn`), and writes all replies, once per connection.
Same work, warm caches; that order doubles the throughput of many connections (design page, decision 2).

Invariant: a turn ends, and the next one is planned, whatever fails in it; a connection that failed is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from redisai_engine.backends.base import BackendSettings
from redisai_engine.backends.registry import backend
from redisai_engine.config import Settings
from redisai_engine.errors import EngineError, ModelLoadError
from redisai_engine.execution.executor import Executor
from redisai_engine.execution.job import RunnableModel
from redisai_engine.process.peers import Peers, Question
from redisai_engine.redis.store import ModelMeta
from redisai_engine.redis.upstream import Address
from redisai_engine.service.models import Models
from redisai_engine.service.polling import BusyPolling, microseconds
from redisai_engine.service.scripts import Scripts

if TYPE_CHECKING:
    from redisai_engine.fronts.resp.session import Session

Loaded = Callable[[RunnableModel | EngineError], None]


class Engine:
    """The shared state of one process."""

    def __init__(self, settings: Settings, upstream: Address, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.upstream = upstream
        self.loop = loop
        self.model_chunk_size = settings.model_chunk_size  # AI.CONFIG changes these two
        self.backends_path = ""
        self.models = Models(settings, upstream, loop)
        self.scripts = Scripts()
        self.executor = Executor(
            loop,
            threads_per_queue=settings.threads_per_queue,
            queue_limit=settings.queue_limit,
            execution_timeout_ms=settings.model_execution_timeout,
        )
        self.peers = Peers(self._answer_peer)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._loading: dict[str, list[Loaded]] = {}
        self._touched: list[Session] = []
        self._answered: list[Session] = []
        self._turn_planned = False
        self._polling = BusyPolling(loop, microseconds(settings) / 1e6)

    def deadline(self, timeout_ms: int | None) -> float | None:
        """Gives the event loop's time that is `timeout_ms` from now."""
        return None if timeout_ms is None else self.loop.time() + timeout_ms / 1000

    def _answer_peer(self, question: Question) -> Any:
        """Answers another worker: a model's figures, or a change that a client made there."""
        if "figures" in question:
            return asdict(self.models.statistics(question["figures"].encode()))
        if "reset" in question:
            self.models.statistics(question["reset"].encode()).reset()
        for name in ("model_chunk_size", "backends_path"):
            if name in question:
                setattr(self, name, question[name])
        return None

    # The turn

    def touch(self, connection: Session) -> None:
        """Has `connection` looked after at the end of this turn."""
        self._touched.append(connection)
        if not self._turn_planned:
            self.plan_turn()

    def answered(self, connection: Session) -> None:
        """Has `connection` write at the end of this turn; a reply that no request waits for needs no more."""
        self._answered.append(connection)
        if not self._turn_planned:
            self.plan_turn()

    def plan_turn(self) -> None:
        """Has a turn end after the present callbacks, in which submitted jobs are run."""
        if not self._turn_planned:
            self._turn_planned = True
            self.loop.call_soon(self._end_of_turn)

    def _end_of_turn(self) -> None:
        written: dict[Session, None] = {}
        while True:
            touched, self._touched = dict.fromkeys(self._touched), []
            for connection in touched:
                try:
                    connection.dispatch()
                except Exception:  # the others, and the turns to come, must not suffer for it
                    connection.fail()
            self._run_models()  # some of them have replies then, or more to do
            written = written | touched if written else touched
            if not self._touched:
                break
        self._turn_planned = False
        if self._answered:
            written.update(dict.fromkeys(self._answered))
            self._answered.clear()
        for connection in written:
            try:
                connection.flush()
            except Exception:
                connection.abort()
        if len(written) == 1 and not self.executor.is_running:
            self._polling.turn_ended()

    def _run_models(self) -> None:
        try:
            self.executor.run_turn()
        except Exception as error:
            self.loop.call_exception_handler({"message": "a turn's runs failed", "exception": error})

    # Loading

    def load(self, meta: ModelMeta, blob: bytes, done: Loaded) -> None:
        """Loads a model in a thread and calls `done` in the event loop; the same model is loaded once."""
        loaded = self.models.by_id(meta.id.encode())
        if loaded is not None:  # by another connection, while this one was reading it
            done(loaded)
            return
        waiting = self._loading.setdefault(meta.id, [])
        waiting.append(done)
        if len(waiting) == 1:
            future = self.loop.run_in_executor(self._loader, self._load, meta, blob)
            future.add_done_callback(lambda finished: self._loaded(meta, finished.result()))

    def _load(self, meta: ModelMeta, blob: bytes) -> RunnableModel | EngineError:
        threads = BackendSettings(self.settings.intra_op_threads, self.settings.inter_op_threads)
        try:
            loaded = backend(meta.backend).load(
                blob, meta.device, inputs=meta.inputs, outputs=meta.outputs, settings=threads
            )
        except EngineError as error:
            return error
        except Exception as error:  # a framework's fault must reach the client, not end the load thread
            return ModelLoadError(f"ERR the model can't be loaded: {error}")
        return RunnableModel(
            loaded,
            backend_name=meta.backend,
            device=meta.device,
            batch_size=meta.batch_size,
            min_batch_size=meta.min_batch_size,
            min_batch_timeout_ms=meta.min_batch_timeout_ms,
            statistics=self.models.statistics(meta.id.encode()),
        )

    def _loaded(self, meta: ModelMeta, outcome: RunnableModel | EngineError) -> None:
        if not isinstance(outcome, EngineError):
            self.models.add(meta.id.encode(), outcome, meta.blob_size)
        for done in self._loading.pop(meta.id):
            done(outcome)

    def compute(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Calls `function` in the load thread, and `done` in the event loop with its outcome or its EngineError."""
        future = self.loop.run_in_executor(self._loader, _outcome_of, function)
        future.add_done_callback(lambda finished: done(finished.result()))

    async def close(self) -> None:
        """Finishes what runs, then ends the threads."""
        self.peers.leave()
        await self.executor.drain()
        self.executor.close()
        self.models.close()
        self._loader.shutdown(wait=True, cancel_futures=True)


def _outcome_of(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except EngineError as error:
        return error
    except Exception as error:  # whatever goes wrong must reach the client, not leave it waiting
        return EngineError(f"ERR the engine failed on this command: {error!r}")
