"""
A front without a socket: arguments in, replies out, through the narrow interface that every front has to the engine.

It shows what an HTTP front needs: a `Client`, four methods for the turn, and four members for what Redis sends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from redisai_engine.commands.ai.prepared import PreparedDags, PreparedRun
from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import fail
from redisai_engine.commands.table import COMMANDS
from redisai_engine.commands.task import Task
from redisai_engine.config import Settings
from redisai_engine.errors import CommandError
from redisai_engine.protocol import replies
from redisai_engine.redis.address import Address
from redisai_engine.redis.backpressure import Reading
from redisai_engine.redis.upstream import Relayed
from redisai_engine.service.engine import Engine

Request = tuple[list[bytes], "asyncio.Future[bytes]"]


class MemoryFront:
    """One client. Its requests are carried out one after another, predictions on the fast path where possible."""

    def __init__(self, engine: Engine) -> None:
        self.reading = Reading()
        self.client = Client(engine, self)
        self.fast_path_requests = 0  # requests that took the fast path
        self._prepared = PreparedDags()
        self._requests: list[Request] = []
        self._runs: list[tuple[PreparedRun, asyncio.Future[bytes]]] = []

    async def ask(self, *words: bytes | str | int) -> bytes:
        """Carry out a command of RedisAI and return its reply."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        arguments = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self._requests.append((arguments, answer))
        self.client.touch()
        return await answer

    # What the turn calls

    def dispatch(self) -> None:
        requests, self._requests = self._requests, []
        for arguments, answer in requests:
            form = self._prepared.find(arguments) if arguments[0] == b"AI.DAGEXECUTE_RO" else None
            run = None if form is None else form.run(self.client, form.blobs(arguments))
            if run is not None:
                self.fast_path_requests += 1
                self._runs.append((run, answer))
            else:
                self._carry_out(arguments, answer)

    def _carry_out(self, arguments: list[bytes], answer: asyncio.Future[bytes]) -> None:
        try:
            plan = COMMANDS[arguments[0]].plan(self.client, arguments)
        except CommandError as error:
            plan = fail(error)
        Task(
            self.client, plan, lambda task: answer.set_result(task.reply or b""), silent=False, request=arguments
        ).go_on()

    def flush(self) -> None:
        for run, answer in self._runs:
            if run.reply is not None:
                answer.set_result(run.reply if isinstance(run.reply, bytes) else b"".join(run.reply))
        self._runs = [(run, answer) for run, answer in self._runs if run.reply is None]
        if self.client.opened_upstream is not None:
            self.client.opened_upstream.flush()

    def fail(self) -> None:
        raise AssertionError("dispatch failed")

    def abort(self) -> None:
        raise AssertionError("flush failed")

    # What the connection to Redis calls

    def relayed(self, entry: Relayed, data: bytes) -> None:
        raise AssertionError("nothing is relayed")

    def pushed(self, data: bytes) -> None:
        raise AssertionError("nothing is subscribed to")

    def upstream_lost(self, reason: str, *, in_reply: bool, by_redis: bool) -> None:
        self.client.lose(replies.error(reason))


@contextlib.asynccontextmanager
async def memory_front(port: int) -> AsyncIterator[MemoryFront]:
    """Yield a front of an engine in this process, in front of the Redis on that port."""
    engine = Engine(Settings(), Address(port=port), asyncio.get_running_loop())
    front = MemoryFront(engine)
    try:
        yield front
    finally:
        if front.client.opened_upstream is not None:
            front.client.opened_upstream.close()
        await engine.close()
