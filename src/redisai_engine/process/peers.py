"""
Communication between the worker processes of one engine: questions to all others, answered through the parent.

Theory of operation. Each worker has a link to the parent's hub. A worker asks `{"ask": n, "question": {...}}` and gets
`{"answers": n, "all": [...]}`. It is asked `{"question": {...}, "number": n}` and answers `{"answer": ..., "number":
n}`. Each side numbers its own questions, so answers may come in any order. Twice a second the worker's event loop sends
`{"beat": true}`: that it does is how the parent knows that it isn't hung. `{"ready": true}` says that it
accepts connections.

A question `{"set": {...}}` changes something in every worker. The hub keeps what was set, for workers that are started
later.

Invariant: every question is answered, with an empty list if there are no other workers or they are gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from redisai_engine.process.frames import BrokenFrame, Link, Message
from redisai_engine.service.engine import Question

Answer = Callable[[Question], Any]

BEAT_SECONDS = 0.5
_ANSWER_SECONDS = 5.0  # a worker that hangs must not keep the others' clients waiting
_HUB_SECONDS = 10.0  # nor a parent that hangs


class Peers:
    """A worker's side. `answer` answers the questions of the other workers, perhaps with a future of the answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._link: Link | None = None
        self._waiting: dict[int, Callable[[list[Any]], None]] = {}
        self._asked = 0
        self._tasks: list[asyncio.Task[None]] = []

    def join(self, link: Link) -> None:
        """Answer the hub's questions, and show it twice a second that the event loop runs."""
        self._link = link
        self._tasks = [asyncio.create_task(self._listen(link)), asyncio.create_task(_beat(link))]

    def ready(self) -> None:
        """Tell the parent that connections are accepted."""
        if self._link is not None:
            self._link.send({"ready": True})

    def ask(self, question: Question, done: Callable[[list[Any]], None]) -> None:
        """Ask all other workers. `done` gets the list of their answers."""
        if self._link is None:
            done([])
            return
        self._asked += 1
        self._waiting[self._asked] = done
        self._link.send({"ask": self._asked, "question": question})
        asyncio.get_running_loop().call_later(_HUB_SECONDS, self._answered, self._asked, [])

    def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._link is not None:
            self._link.close()
            self._link = None

    def _answered(self, number: int, answers: list[Any]) -> None:
        done = self._waiting.pop(number, None)
        if done is not None:
            done(answers)

    def _reply(self, link: Link, number: int, answer: Any) -> None:
        if isinstance(answer, asyncio.Future):
            answer.add_done_callback(partial(self._reply_later, link, number))
        else:
            link.send({"answer": answer, "number": number})

    def _reply_later(self, link: Link, number: int, answer: asyncio.Future[Any]) -> None:
        failed = answer.cancelled() or answer.exception() is not None
        if self._link is link:
            link.send({"answer": None if failed else answer.result(), "number": number})

    async def _listen(self, link: Link) -> None:
        try:
            while (message := await link.receive()) is not None:
                if "question" in message:
                    self._reply(link, message["number"], self._answer(message["question"]))
                else:
                    self._answered(message["answers"], message["all"])
        except BrokenFrame:
            link.close()  # the parent sees it and replaces this process
        # The hub is gone, so no more answers will come.
        self._link = None
        for number in list(self._waiting):
            self._answered(number, [])


async def _beat(link: Link) -> None:
    while True:
        link.send({"beat": True})
        await asyncio.sleep(BEAT_SECONDS)


class Hub:
    """The parent's side, which passes each question to all other workers and returns their answers."""

    def __init__(self) -> None:
        self._links: set[Link] = set()
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._set: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, link: Link, ready: asyncio.Event) -> None:
        """Serve a worker until it closes its link. Raise BrokenFrame. `ready` is set when it accepts connections."""
        self._links.add(link)
        if self._set:
            link.send({"question": {"set": self._set}, "number": 0})
        try:
            while (message := await link.receive()) is not None:
                if "ready" in message:
                    ready.set()
                elif "ask" in message:
                    # A task, because this coroutine must go on reading: the asker may have to answer others meanwhile.
                    self._in_background(self._pass_on(link, message))
                elif "answer" in message:
                    self._take_answer(message)
        finally:
            self._links.discard(link)
            link.close()

    def _take_answer(self, message: Message) -> None:
        future = self._open.get(message.get("number", 0))
        if future is not None and not future.done():
            future.set_result(message["answer"])

    def tell(self, question: Question) -> None:
        """Ask all workers without waiting for their answers."""
        self._in_background(self._ask(question, self._links))

    def _in_background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ask_all(self, question: Question) -> list[Any]:
        """Ask all workers and return the answers of those that give one in time."""
        return await self._ask(question, set(self._links))

    async def _pass_on(self, asker: Link, message: Message) -> None:
        answers = await self._ask(message["question"], self._links - {asker})
        asker.send({"answers": message["ask"], "all": answers})

    async def _ask(self, question: Question, links: set[Link]) -> list[Any]:
        self._set.update(question.get("set", {}))
        futures = []
        for link in links:
            self._number += 1
            future = self._open[self._number] = asyncio.get_running_loop().create_future()
            futures.append((self._number, future))
            link.send({"question": question, "number": self._number})
        if futures:
            await asyncio.wait([future for _, future in futures], timeout=_ANSWER_SECONDS)
        for number, _ in futures:
            del self._open[number]
        return [future.result() for _, future in futures if future.done()]
