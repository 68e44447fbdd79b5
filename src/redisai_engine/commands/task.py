"""
One command while it is carried out: run its body and do what that yields.

Invariant: a task ends exactly once, with a reply; whatever goes wrong in a body becomes an error reply.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import AskPeers, Compute, Load, Pass, PassUntil, Plan, Run, RunRequest
from redisai_engine.errors import EngineError
from redisai_engine.execution.job import Job
from redisai_engine.protocol import replies, texts

_log = logging.getLogger(__name__)


class Task:
    """`reply` is None until the task has ended."""

    __slots__ = ("_body", "_client", "_ended", "_outcomes", "_waiting", "is_detached", "reply", "silent")

    def __init__(self, client: Client, body: Plan, ended: Callable[[Task], None], *, silent: bool) -> None:
        self.reply: bytes | None = None
        self.silent = silent
        self.is_detached = False  # it needs Redis no more, so later commands of the client may begin
        self._client = client
        self._body = body
        self._ended = ended
        self._outcomes: list[Any] = []
        self._waiting = 0

    def go_on(self, outcome: Any = None) -> None:
        """Resume the body with the outcome of what it yielded."""
        try:
            self._do(self._body.send(outcome))
        except StopIteration as stop:
            self.end(stop.value)
        except EngineError as error:
            self.end(replies.error(error.wire))
        except Exception:
            self._fail()

    def _throw(self, error: EngineError) -> None:
        """Resume the body with an error."""
        try:
            self._do(self._body.throw(error))
        except StopIteration as stop:
            self.end(stop.value)
        except EngineError as raised:
            self.end(replies.error(raised.wire))
        except Exception:
            self._fail()

    def _fail(self) -> None:
        """Answer for the engine's own mistake, which the log tells of."""
        _log.exception("a command failed in a way that is the engine's fault")
        self.end(replies.error(texts.ENGINE_FAILED))

    def end(self, reply: bytes) -> None:
        """Set the reply and tell whoever waits for it, unless that happened before."""
        if self.reply is None:
            self._body.close()
            self.reply = reply
            self.is_detached = True
            self._ended(self)

    def _do(self, step: Any) -> None:
        engine = self._client.engine
        if step and isinstance(step, list):  # first, because it is by far the most frequent
            self._ask(step)
        elif isinstance(step, Run):
            self._run(step)
        elif isinstance(step, Load):
            engine.loader.load(step.meta, step.blob, self._got)
        elif isinstance(step, Compute):
            engine.loader.compute(step.function, self._got)
        elif isinstance(step, AskPeers):
            engine.ask_peers(step.question, self.go_on)
        elif step:
            self._ask(step)
        else:
            self.go_on([])

    def _ask(self, step: Any) -> None:
        upstream = self._client.upstream
        if isinstance(step, list):
            upstream.ask(step, self.go_on)
        elif isinstance(step, Pass):
            upstream.ask_raw(step.request, self.go_on)
        elif isinstance(step, PassUntil):
            upstream.ask_until(step.request, step.is_last, self.go_on)
        else:
            raise TypeError(f"a body can't yield {step!r}")
        self._client.touch()  # has it sent at the end of this turn

    def _run(self, run: Run) -> None:
        if run.detached:
            self.is_detached = True
            self._client.touch()
        engine = self._client.engine
        engine.turn.plan()
        requests = run.requests
        submit = engine.executor.submit
        if len(requests) == 1:
            submit(_job(requests[0], run.deadline, self._ran_alone))
            return
        self._outcomes = [None] * len(requests)
        self._waiting = len(requests)
        for place, request in enumerate(requests):
            submit(_job(request, run.deadline, partial(self._ran, place)))

    def _ran_alone(self, outcome: Any) -> None:
        self.go_on([outcome])

    def _ran(self, place: int, outcome: Any) -> None:
        self._outcomes[place] = outcome
        self._waiting -= 1
        if not self._waiting:
            self.go_on(self._outcomes)

    def _got(self, outcome: Any) -> None:
        if isinstance(outcome, EngineError):
            self._throw(outcome)
        else:
            self.go_on(outcome)


def _job(request: RunRequest, deadline: float | None, done: Callable[[Any], None]) -> Job:
    return Job(request.model, request.inputs, deadline, done, request.device if request.model is None else None)


def carry_out(client: Client, body: Plan, done: Callable[[bytes], None]) -> None:
    """Carry out a body in the midst of the command that is running; `done` gets its reply, come what may."""

    def ended(part: Task) -> None:
        client.parts.discard(part)
        done(part.reply or b"")

    part = Task(client, body, ended, silent=False)
    client.parts.add(part)
    if client.lost:
        part.end(client.lost)
    else:
        part.go_on()
