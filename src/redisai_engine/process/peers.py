"""
Communication between the worker processes of one engine: questions to all others, answered through the parent.

Theory of operation. Workers and hub exchange one JSON object per line over a unix socket. A worker asks
`{"ask": n, "question": {...}}` and gets `{"answers": n, "all": [...]}`. It is asked `{"question": {...}, "number": n}`
and answers `{"answer": ..., "number": n}`. Each side numbers its own questions, so answers may come in any order.

Invariant: every question is answered, with an empty list if there are no other workers or they are gone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redisai_engine.service.engine import Question

Answer = Callable[[Question], Any]

_ANSWER_SECONDS = 5.0  # a worker that hangs must not keep the others' clients waiting


class Peers:
    """A worker's side. `answer` answers the questions of the other workers."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, Callable[[list[Any]], None]] = {}
        self._asked = 0
        self._task: asyncio.Task[None] | None = None

    async def join(self, path: str) -> None:
        """Connect to the hub. Raise OSError."""
        reader, self._writer = await asyncio.open_unix_connection(path)
        self._task = asyncio.create_task(self._listen(reader))

    def ask(self, question: Question, done: Callable[[list[Any]], None]) -> None:
        """Ask all other workers. `done` gets the list of their answers."""
        if self._writer is None:
            done([])
            return
        self._asked += 1
        self._waiting[self._asked] = done
        _write(self._writer, {"ask": self._asked, "question": question})

    def leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "question" in message:
                assert self._writer is not None
                _write(self._writer, {"answer": self._answer(message["question"]), "number": message["number"]})
            else:
                self._waiting.pop(message["answers"])(message["all"])
        # The hub is gone, so no more answers will come.
        self._writer = None
        for done in self._waiting.values():
            done([])


class Hub:
    """The parent's side, which passes each question to all other workers and returns their answers."""

    def __init__(self) -> None:
        self._workers: set[asyncio.StreamWriter] = set()
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, path: str) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path)

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for worker in self._workers:
            worker.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._workers.add(writer)
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if "ask" in message:
                    # A task, because this coroutine must go on reading: the asker may have to answer others meanwhile.
                    task = asyncio.create_task(self._pass_on(writer, message))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                elif (future := self._open.get(message["number"])) is not None and not future.done():
                    future.set_result(message["answer"])
        except ConnectionError:
            pass  # the worker died; `Workers` starts another one
        finally:
            self._workers.discard(writer)
            writer.close()

    async def _pass_on(self, asker: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        futures = []
        for worker in self._workers - {asker}:
            self._number += 1
            future = self._open[self._number] = asyncio.get_running_loop().create_future()
            futures.append((self._number, future))
            _write(worker, {"question": message["question"], "number": self._number})
        if futures:
            await asyncio.wait([future for _, future in futures], timeout=_ANSWER_SECONDS)
        answers = [future.result() for _, future in futures if future.done()]
        for number, _ in futures:
            del self._open[number]
        with suppress(ConnectionError):
            _write(asker, {"answers": message["ask"], "all": answers})


def _write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
