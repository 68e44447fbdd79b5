"""
What all clients of a process share: the settings, the models and scripts in memory, the queues and the turn.

This module knows no connections and no commands. The rest of the process is built around one `Engine`
(`process/server.py`).
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
    """The shared state of a process. `redis_address` is the Redis behind it."""

    def __init__(self, settings: Settings, redis_address: Address, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.redis_address = redis_address
        self.loop = loop
        self.model_chunk_size = settings.model_chunk_size  # AI.CONFIG can change this and the next
        self.backends_path = ""
        self.backend_settings = BackendSettings(settings.intra_op_threads, settings.inter_op_threads)
        self.models = Models(settings, redis_address, loop)
        self.scripts = Scripts(self.models.watch)
        self.executor = Executor(
            loop,
            threads_per_queue=settings.threads_per_queue,
            queue_limit=settings.queue_limit,
            execution_timeout_ms=settings.model_execution_timeout,
        )
        self.turn = Turn(loop, self.executor, BusyPolling(loop, microseconds(settings) / 1e6))
        self.loader = Loader(loop, self.models, self.backend_settings, settings.model_memory)
        #: Asks the engine's other worker processes a question. `process/` replaces it if there are any.
        self.ask_peers: AskPeers = _no_peers

    def deadline(self, timeout_ms: int | None) -> float | None:
        """Return the event loop's time `timeout_ms` from now, or None without a timeout."""
        return None if timeout_ms is None else self.loop.time() + timeout_ms / 1000

    def statistics(self, database: int, key: bytes, id_: bytes) -> RunStatistics:
        """Return the run statistics of the key's model or script with this id: zeros if it isn't in memory."""
        found = self.models.statistics(database, key, id_) or self.scripts.statistics(database, key, id_)
        return found or RunStatistics()

    def answer_peer(self, question: Question) -> Any:
        """
        Answer another worker process.

        It asks for the statistics of a model or script, or passes on a change that one of its clients made with AI.INFO
        RESETSTAT or AI.CONFIG. A model or script is described by database, key and id, as text.
        """
        if "figures" in question:
            return asdict(self._statistics(*question["figures"]))
        if "reset" in question:
            self._statistics(*question["reset"]).reset()
        for name in ("model_chunk_size", "backends_path"):
            if name in question:
                setattr(self, name, question[name])
        return None

    def _statistics(self, database: int, key: str, id_: str) -> RunStatistics:
        return self.statistics(database, key.encode("latin-1"), id_.encode())

    async def close(self) -> None:
        """Finish all submitted runs, then end the threads and the connection to Redis."""
        await self.executor.drain()
        self.executor.close()
        self.models.close()
        self.loader.close()


def _no_peers(question: Question, done: Callable[[list[Any]], None]) -> None:
    done([])
