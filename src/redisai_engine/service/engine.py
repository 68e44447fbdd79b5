"""
What all clients of a process share: the settings, the models and scripts in memory, the queues and the turn.

This module knows no connections and no commands. The rest of the process is built around one `Engine`
(`process/server.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from weakref import WeakMethod

from redisai_engine.backends.base import Backend, BackendSettings
from redisai_engine.config import Settings
from redisai_engine.errors import ModelLoadError
from redisai_engine.execution.executor import Executor
from redisai_engine.execution.figures import Ledger
from redisai_engine.execution.hosts.models import HostLimits
from redisai_engine.execution.hosts.parent import Output
from redisai_engine.execution.hosts.placement import HOST_BYTES, SHARING, Placement
from redisai_engine.execution.hosts.sharing.models import SharingBackend
from redisai_engine.execution.quarantine import Quarantine, Table
from redisai_engine.execution.statistics import RunStatistics
from redisai_engine.processors import available
from redisai_engine.protocol.patterns import KeyPatterns
from redisai_engine.redis.address import Address
from redisai_engine.redis.liveness import Liveness
from redisai_engine.redis.traffic import Arrivals, Traffic
from redisai_engine.service.encoding import ReplyEncoder
from redisai_engine.service.loading import Loader
from redisai_engine.service.memory.shares import Shares
from redisai_engine.service.memory.tallies import Tallies
from redisai_engine.service.memory.trimming import Trimming, give_back
from redisai_engine.service.models import Models
from redisai_engine.service.polling import BusyPolling, PollingPlace, microseconds, worker_seconds
from redisai_engine.service.scripts import Scripts
from redisai_engine.service.shared import Logins, SharedConnection
from redisai_engine.service.turn import Turn
from redisai_engine.tracing.spans import spans_by
from redisai_engine.users import ModelUser

Question = dict[str, Any]
AskPeers = Callable[[Question, Callable[[list[Any]], None]], None]
Stored = Callable[[bytes, int, bytes], None]

_log = logging.getLogger(__name__)

#: How many scripts are kept in processes of their own.
_HOSTED_SCRIPTS = 64

#: How often the memory of processes of models and scripts is looked at.
_WEIGH_SECONDS = 1.0


class Engine:
    """
    The shared state of a process. `redis_address` is the Redis behind it.

    `host_output` opens where models and scripts print that run in processes of their own. Without it, that is lost.
    If there are other processes, `place` is where it may poll, and `tallies` what arrives at any of them.
    """

    def __init__(
        self,
        settings: Settings,
        redis_address: Address,
        loop: asyncio.AbstractEventLoop,
        quarantine: Quarantine | None = None,
        host_output: Output | None = None,
        *,
        place: PollingPlace | None = None,
        tallies: Tallies | None = None,
    ) -> None:
        self.settings = settings
        self.redis_address = redis_address
        self.loop = loop
        self.model_chunk_size = settings.model_chunk_size  # AI.CONFIG can change this and the next
        self.backends_path = ""
        self.spans = spans_by()
        self.open_until = 0.0  # until this time of the loop, Redis is taken to let clients in without a password
        onnx_memory = settings.onnx_memory or _memory() * 3 // 4 // settings.workers
        self.backend_settings = BackendSettings(settings.intra_op_threads, settings.inter_op_threads, onnx_memory)
        self.quarantine = quarantine or Quarantine()
        threads = settings.threads_per_queue or _processors(settings.workers)
        host_limits = HostLimits(
            settings.model_load_timeout / 1000,
            settings.host_memory,
            threads,
            together=settings.model_memory,
            awake_seconds=worker_seconds(settings),
        )
        self.placement = Placement(
            host_limits,
            settings.in_process.split(","),
            host_output,
            sharing=dict.fromkeys(SHARING[settings.hosts_per], SharingBackend),
            trusted=settings.trusted_models,
            idle_seconds=settings.host_idle,
            python=python_backend(settings, host_output) if settings.python_models else None,
            python_keys=KeyPatterns(settings.python_models),
        )
        self.ledger = Ledger()
        self.traffic = Traffic()
        self.arrivals = Arrivals(tally=None if tallies is None else tallies.own)
        self._tallies = tallies
        self.models = Models(settings, redis_address, loop, self.ledger)
        self.liveness = Liveness(redis_address, loop, settings.upstream_timeout, self.models.stop_tracking)
        self.scripts = self._new_scripts()
        self.executor = Executor(
            loop,
            threads_per_queue=threads,
            queue_limit=settings.queue_limit,
            execution_timeout_ms=settings.model_execution_timeout,
        )
        self.turn = Turn(loop, self.executor, BusyPolling(loop, microseconds(settings) / 1e6, place))
        self.shared = self._new_shared()
        self.logins = Logins(self._new_shared)
        self.loader = Loader(
            loop, self.models, self.placement, self.quarantine, self.backend_settings, refuse=self.refuse
        )
        self.encoder = ReplyEncoder(loop)
        self._trimming = Trimming(loop, self.loader.threads, give_back)
        self._given_up = 0  # clients
        self._shares = Shares(loop)
        self._weighing = loop.call_later(_WEIGH_SECONDS, self._weigh)
        #: Asks the engine's other worker processes a question. `process/` replaces it if there are any.
        self.ask_peers: AskPeers = _no_peers
        #: Told of the user who has stored a model that may be warmed up, and of its database and key.
        self.stored: Stored = _nobody

    def deadline(self, timeout_ms: int | None) -> float | None:
        """Return the event loop's time `timeout_ms` from now, or None without a timeout."""
        return None if timeout_ms is None else self.loop.time() + timeout_ms / 1000

    def statistics(self, database: int, key: bytes, id_: bytes) -> RunStatistics:
        """Return the run statistics of the key's model or script with this id: zeros if it isn't in memory."""
        found = self.models.statistics(database, key, id_) or self.scripts.statistics(database, key, id_)
        return found or RunStatistics()

    def told_of(self, database: int, key: str, id_: str) -> dict[str, Any]:
        """Return what AI.INFO adds up over all processes, of a version of what a key holds."""
        model = self.models.peek((database, key.encode("latin-1")), id_.encode())
        about = {} if model is None else {"failed": model.loaded.failure, "taken": model.loaded.taken or 0}
        return {**asdict(self._statistics(database, key, id_)), **about}

    def answer_peer(self, question: Question) -> Any:
        """
        Answer another worker process.

        It asks for the statistics of a model or script, or passes on a change that one of its clients made with AI.INFO
        RESETSTAT or AI.CONFIG, or that a model is to leave memory. A model or script is described by database, key and
        id, as text.
        """
        if "figures" in question:
            return self.told_of(*question["figures"])
        if "reset" in question:
            self._statistics(*question["reset"]).reset()
        if "unload" in question:
            database, key = question["unload"]
            self.models.unload(database, key.encode("latin-1"))
        for name, value in question.get("set", {}).items():
            if name == "quarantine":
                self._drop(self.quarantine.take(value))
            elif name == "refused":
                self._drop(self.quarantine.add(value))
            else:
                setattr(self, name, value)
        return None

    def moved(self, database: int, key: bytes, other: bytes) -> None:
        """Keep what a key held in memory for another one: Redis has renamed it. Unless it may not run there."""
        self.models.moved(database, key, other)
        model = self.models.held((database, other))
        if model is not None:
            try:
                self.placement.check_key(model.backend_name, other)
            except ModelLoadError:
                self.models.unload(database, other)

    def _new_shared(self, login: bytes = b"") -> SharedConnection:
        return SharedConnection(
            self.redis_address,
            self.loop,
            settings=self.settings,
            traffic=self.traffic,
            arrivals=self.arrivals,
            tallies=self._tallies,
            liveness=self.liveness,
            turn=self.turn,
            login=login,
        )

    def _new_scripts(self) -> Scripts:
        if self.placement.is_hosted("TORCH"):
            return Scripts(self.models.watch, _HOSTED_SCRIPTS * HOST_BYTES, HOST_BYTES)
        return Scripts(self.models.watch)

    def _statistics(self, database: int, key: str, id_: str) -> RunStatistics:
        return self.statistics(database, key.encode("latin-1"), id_.encode())

    def refuse(self, digest: str, why: str) -> None:
        """Refuse a blob for a while, in all processes, because it has failed its probation."""
        seconds = self.settings.quarantine
        _log.error(
            "the model with digest %s is refused for %g s, because the process that tried it out %s",
            *(digest, seconds, why),
        )
        if seconds:
            table: Table = {digest: (time.time() + seconds, why)}
            self._drop(self.quarantine.add(table))
            self.ask_peers({"set": {"refused": table}}, lambda answers: None)

    def _weigh(self) -> None:
        """Count what processes of models and scripts take now, make room, and give back what was freed."""
        self._weighing = self.loop.call_later(_WEIGH_SECONDS, self._weigh)
        self.models.weigh()
        self.scripts.weigh()
        self._shares.look([WeakMethod(model.measure) for model in self.models.elsewhere()])
        self.placement.look()
        self._trimming.look(self.models.left + self.scripts.left + self._given_up)

    def gave_up(self, clients: int) -> None:
        """Count clients whose connections were ended with much that they hadn't taken."""
        self._given_up += clients

    def _drop(self, ids: Sequence[bytes]) -> None:
        for id_ in ids:
            self.models.drop_version(id_)
            self.scripts.drop_version(id_)

    async def close(self, seconds: float | None = None) -> None:
        """
        Finish all submitted runs, then end the threads and the connection to Redis.

        Runs get up to `seconds`, without a number as long as they need.
        """
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.executor.drain(), seconds)
        self._weighing.cancel()
        self.executor.close()
        if self.spans is not None:
            self.spans.close()
        self.shared.close()
        self.logins.close()
        self.liveness.close()
        self.models.close()
        self.placement.close()
        self.loader.close()
        self.encoder.close()


def python_backend(settings: Settings, output: Output | None) -> Backend:
    """Return what serves Python models. An engine without them doesn't import it."""
    from redisai_engine.environments.environments import environments_of
    from redisai_engine.execution.hosts.python.models import PythonBackend, PythonSettings
    from redisai_engine.execution.hosts.python.starting import Starting

    starting = Starting(
        output,
        most_answer=settings.tensor_limit,
        threads=settings.intra_op_threads,
        user=ModelUser.named(settings.worker_user),
        awake_seconds=worker_seconds(settings),
    )
    limits = HostLimits(
        settings.worker_load_timeout / 1000, settings.worker_memory, 1, load_setting="worker-load-timeout"
    )
    given = PythonSettings(limits, settings.worker_idle, settings.env_timeout)
    return PythonBackend(starting, given, environments_of(settings))


def _processors(workers: int) -> int:
    """Return one worker process' part of the processors: at least 2, so that one model never holds up all others."""
    return max(2, available() // workers)


def _memory() -> int:
    """Return the bytes of memory that the machine has, or the container's limit if that is less."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        allowed = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:  # not on Linux, or control groups of the first version
        return installed
    return min(installed, int(allowed)) if allowed.isdecimal() else installed


def _nobody(user: bytes, database: int, key: bytes) -> None:
    pass


def _no_peers(question: Question, done: Callable[[list[Any]], None]) -> None:
    done([])
