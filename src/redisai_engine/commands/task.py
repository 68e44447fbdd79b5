"""
One command of the table while it is carried out: runs its body and does what it yields.

Invariant: a task ends exactly once, with a reply; whatever goes wrong in a body becomes an error reply.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from redisai_engine.commands.table import AskPeers, Compute, Load, Pass, PassUntil, Plan, Run
from redisai_engine.errors import EngineError
from redisai_engine.execution.job import Job
from redisai_engine.protocol import replies, texts

if TYPE_CHECKING:
    from redisai_engine.fronts.resp.session import Session

_log = logging.getLogger(__name__)


class Task:
    """`reply` is None until the task has ended."""

    __slots__ = ("_body", "_ended", "_outcomes", "_session", "_waiting", "is_detached", "reply", "silent")

    def __init__(self, session: Session, body: Plan, ended: Callable[[Task], None], *, silent: bool) -> None:
        self.reply: bytes | None = None
        self.silent = silent
        self.is_detached = False  # it needs Redis no more
        self._session = session
        self._body = body
        self._ended = ended
        self._outcomes: list[Any] = []
        self._waiting = 0

    def go_on(self, outcome: Any = None) -> None:
        """Resumes the body with the outcome of what it yielded."""
        try:
            self._do(self._body.send(outcome))
        except StopIteration as stop:
            self.end(stop.value)
        except EngineError as error:
            self.end(replies.error(error.wire))
        except Exception:
            self._fail()

    def _fail(self) -> None:
        """Answers for the engine's own mistake, which the log tells of."""
        _log.exception("a command failed in a way that is the engine's fault")
        self.end(replies.error(texts.ENGINE_FAILED))

    def end(self, reply: bytes) -> None:
        """Sets the reply and tells the session, unless that happened before."""
        if self.reply is None:
            self._body.close()
            self.reply = reply
            self._ended(self)

    def _do(self, step: Any) -> None:
        if step and isinstance(step, list):  # first, because it is by far the most frequent
            self._ask(step)
        elif isinstance(step, Run):
            self._run(step)
        elif isinstance(step, Load):
            self._session.engine.load(step.meta, step.blob, self._got)
        elif isinstance(step, Compute):
            self._session.engine.compute(step.function, self._got)
        elif isinstance(step, AskPeers):
            self._session.engine.peers.ask(step.question, self.go_on)
        elif step:
            self._ask(step)
        else:
            self.go_on([])

    def _ask(self, step: Any) -> None:
        upstream = self._session.upstream
        if isinstance(step, list):
            upstream.ask(step, self.go_on)
        elif isinstance(step, Pass):
            upstream.ask_raw(step.request, self.go_on)
        elif isinstance(step, PassUntil):
            upstream.ask_until(step.request, step.is_last, self.go_on)
        else:
            raise TypeError(f"a body can't yield {step!r}")
        self._session.engine.touch(self._session)  # has it sent at the end of this turn

    def _run(self, run: Run) -> None:
        if run.detached:
            self.is_detached = True
            self._session.proceed(self)
        self._session.engine.plan_turn()
        requests = run.requests
        submit = self._session.engine.executor.submit
        if len(requests) == 1:
            request = requests[0]
            submit(Job(request.model, request.inputs, run.deadline, self._ran_alone, self._device(request)))
            return
        self._outcomes = [None] * len(requests)
        self._waiting = len(requests)
        for place, request in enumerate(requests):
            submit(Job(request.model, request.inputs, run.deadline, partial(self._ran, place), self._device(request)))

    @staticmethod
    def _device(request: Any) -> str | None:
        return request.device if request.model is None else None

    def _ran_alone(self, outcome: Any) -> None:
        self.go_on([outcome])

    def _ran(self, place: int, outcome: Any) -> None:
        self._outcomes[place] = outcome
        self._waiting -= 1
        if not self._waiting:
            self.go_on(self._outcomes)

    def _got(self, outcome: Any) -> None:
        if not isinstance(outcome, EngineError):
            self.go_on(outcome)
            return
        try:
            self._do(self._body.throw(outcome))
        except StopIteration as stop:
            self.end(stop.value)
        except EngineError as error:
            self.end(replies.error(error.wire))
        except Exception:
            self._fail()
