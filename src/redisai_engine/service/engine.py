"""
What all clients of one process share: settings, the models and scripts in memory, the queues, the turn.

Knows no connection and no command. The rest of the process is built around one `Engine` (`process/server.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from redisai_engine.backends.base import BackendSettings
from redisai_engine.config import Settings
from redisai_engine.execution.executor import Executor
from redisai_engine.execution.statistics import RunStatistics
from redisai_engine.redis.address import Address
from redisai_engine.service.loading import Loader
from redisai_engine.service.models import Models
from redisai_engine.service.polling import BusyPolling, microseconds
from redisai_engine.service.scripts import Scripts
from redisai_engine.service.turn import Turn

Question = dict[str, Any]
AskPeers = Callable[[Question, Callable[[list[Any]], None]], None]


class Engine:
    """The shared state of one process; `redis_address` is where its clients find Redis."""

    def __init__(self, settings: Settings, redis_address: Address, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.redis_address = redis_address
        self.loop = loop
        self.model_chunk_size = settings.model_chunk_size  # AI.CONFIG changes these two
        self.backends_path = ""
        self.backend_settings = BackendSettings(settings.intra_op_threads, settings.inter_op_threads)
        self.models = Models(settings, redis_address, loop)
        self.scripts = Scripts()
        self.executor = Executor(
            loop,
            threads_per_queue=settings.threads_per_queue,
            queue_limit=settings.queue_limit,
            execution_timeout_ms=settings.model_execution_timeout,
        )
        self.turn = Turn(loop, self.executor, BusyPolling(loop, microseconds(settings) / 1e6))
        self.loader = Loader(loop, self.models, self.backend_settings)
        #: Asks the engine's other workers a question; there are none until `process/` says so.
        self.ask_peers: AskPeers = _no_peers

    def deadline(self, timeout_ms: int | None) -> float | None:
        """Return the event loop's time that is `timeout_ms` from now."""
        return None if timeout_ms is None else self.loop.time() + timeout_ms / 1000

    def statistics(self, id_: bytes) -> RunStatistics:
        """Return the figures of the model or script with that id; zeros where it isn't in memory."""
        return self.models.statistics(id_) or self.scripts.statistics(id_) or RunStatistics()

    def answer_peer(self, question: Question) -> Any:
        """Answer another worker: a model's figures, or a change that a client made there."""
        if "figures" in question:
            return asdict(self.statistics(question["figures"].encode()))
        if "reset" in question:
            self.statistics(question["reset"].encode()).reset()
        for name in ("model_chunk_size", "backends_path"):
            if name in question:
                setattr(self, name, question[name])
        return None

    async def close(self) -> None:
        """Finish what runs, then end the threads."""
        await self.executor.drain()
        self.executor.close()
        self.models.close()
        self.loader.close()


def _no_peers(question: Question, done: Callable[[list[Any]], None]) -> None:
    done([])
