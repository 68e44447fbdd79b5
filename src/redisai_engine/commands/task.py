"""
One command in progress: runs its body and carries out the steps that the body yields.

A body that fails may have asked nothing of Redis yet, which could have refused the command for a reason of its own. So
Redis is asked before the error is the reply (`refusals.py`).

Invariant: a task ends exactly once, with a reply. Any failure in a body becomes an error reply.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redisai_engine.commands.client import Client
from redisai_engine.commands.refusals import ask_first
from redisai_engine.commands.steps import (
    AskPeers,
    Compute,
    Encode,
    Limited,
    Load,
    LoadAndAsk,
    Pass,
    PassUntil,
    Plan,
    Read,
    Run,
    RunRequest,
    TryOut,
)
from redisai_engine.errors import EngineError, forget_frames
from redisai_engine.execution.job import Job
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.replies import Reply

_log = logging.getLogger(__name__)


class Task:
    """
    A command in progress. `reply` is None until the task has ended.

    `request` is given if nothing else of the client reaches Redis before the task has ended or is detached.
    """

    __slots__ = (
        "_began_at",
        "_body",
        "_client",
        "_ended",
        "_outcomes",
        "_request",
        "_room",
        "_waiting",
        "is_detached",
        "reply",
        "silent",
    )

    def __init__(
        self,
        client: Client,
        body: Plan,
        ended: Callable[[Task], None],
        *,
        silent: bool,
        request: Sequence[bytes] | None = None,
        began_at: float | None = None,
    ) -> None:
        self.reply: Reply | None = None
        self.silent = silent
        self.is_detached = False  # it no longer needs Redis, so later commands of the client may start
        self._client = client
        self._began_at = client.engine.turn.began_at if began_at is None else began_at
        self._body = body
        self._ended = ended
        self._request = request
        self._outcomes: list[Any] = []
        self._room = 0  # bytes that the outputs of runs at the same time may still take
        self._waiting = 0

    def begin(self) -> None:
        """Start the body, in another turn than the one in which the task was made."""
        self._began_at = self._client.engine.turn.began_at
        self.go_on()

    def go_on(self, outcome: Any = None) -> None:
        """Resume the body with the outcome of the step that it yielded."""
        try:
            self._do(self._body.send(outcome))
        except StopIteration as stop:
            self.end(stop.value)
        except EngineError as error:
            self._refuse(error)
        except Exception:
            self._fail()

    def _throw(self, error: EngineError) -> None:
        """Resume the body with an error."""
        try:
            self._do(self._body.throw(error))
        except StopIteration as stop:
            self.end(stop.value)
        except EngineError as raised:
            self._refuse(raised)
        except Exception:
            self._fail()

    def _refuse(self, error: EngineError) -> None:
        """Answer with the error, or with that of Redis if it wouldn't have let the request in."""
        forget_frames(error)
        request, self._request = self._request, None
        body = None if request is None or self.is_detached else ask_first(request, error)
        if body is None:
            self._client.engine.ledger.failed(error)
            self.end(replies.error(error.wire))
        else:
            self._body = body
            self.go_on()

    def _fail(self) -> None:
        """Answer for a bug in the engine; the log has the details."""
        _log.exception("a command failed because of a bug in the engine")
        self.end(replies.error(texts.ENGINE_FAILED))

    def end(self, reply: Reply) -> None:
        """Set the reply and notify the owner. A no-op once the task has ended."""
        if self.reply is None:
            self.reply = reply
            self.is_detached = True
            try:
                self._body.close()  # runs its `finally` clauses
            except Exception:  # whoever waits for the reply must get it nevertheless
                _log.exception("a command failed at its end because of a bug in the engine")
            self._ended(self)

    def _do(self, step: Any) -> None:
        engine = self._client.engine
        if step and isinstance(step, list):  # checked first: by far the most frequent step
            self._ask(step)
        elif isinstance(step, Run):
            self._run(step)
        elif isinstance(step, Read):
            self._read(step)
        elif isinstance(step, Load):
            engine.loader.load(step.place, step.meta, step.blob, self._got, for_run=step.for_run)
        elif isinstance(step, TryOut):
            engine.loader.try_out(step.meta, step.blob, self._got)
        elif isinstance(step, LoadAndAsk):
            self._load_and_ask(step)
        elif isinstance(step, Compute):
            engine.loader.compute(step.function, self._got)
        elif isinstance(step, Encode):
            engine.encoder.compute(step.function, self._got)
        elif isinstance(step, AskPeers):
            engine.ask_peers(step.question, self.go_on)
        elif step:
            self._ask(step)
        else:  # an empty list of commands needs no round trip
            self.go_on([])

    def _ask(self, step: Any) -> None:
        upstream = self._client.upstream
        if type(step) is list:  # the usual step
            upstream.ask(step, self.go_on)
        elif isinstance(step, Limited):
            upstream.ask(step, self.go_on, step.limit)
        elif isinstance(step, Pass):
            upstream.ask_raw(step.request, self.go_on)
        elif isinstance(step, PassUntil):
            upstream.ask_until(step.request, step.is_last, self.go_on)
        else:
            raise TypeError(f"a body can't yield {step!r}")
        self._client.touch()  # so that the commands are sent at the end of this turn

    def _read(self, step: Read) -> None:
        if not step.commands:
            self.go_on([])
            return
        self._client.upstream.ask(step.commands, self.go_on, most=step.most, refusal=step.refusal)
        self._client.touch()

    def _load_and_ask(self, step: LoadAndAsk) -> None:
        self._outcomes, self._waiting = [None, None], 2
        load = step.load
        loader = self._client.engine.loader
        loader.load(load.place, load.meta, load.blob, partial(self._take, 0), tried=step.tried)
        self._client.upstream.ask(step.commands, partial(self._take, 1), step.commands.limit)
        self._client.touch()

    def _run(self, run: Run) -> None:
        if run.detached:
            self.is_detached = True
            self._client.touch()  # later requests may start now
        engine = self._client.engine
        engine.turn.plan()  # submitted jobs run in a turn
        requests = run.requests
        submit = engine.executor.submit
        if len(requests) == 1:
            job = self._job(requests[0], run.deadline, self._ran_alone)
            if run.jobs is not None:
                run.jobs.append(job)
            submit(job)
            return
        self._room = engine.settings.tensor_limit
        self._outcomes = [None] * len(requests)
        self._waiting = len(requests)
        for place, request in enumerate(requests):
            submit(self._job(request, run.deadline, partial(self._ran, place)))

    def _job(self, request: RunRequest, deadline: float | None, done: Callable[[Any], None]) -> Job:
        front = self._client.front_number if request.front is None else request.front
        return Job(request.model, request.inputs, deadline, done, taken_at=self._began_at, front=front)

    def _ran_alone(self, outcome: Any) -> None:
        self.go_on([outcome])

    def _ran(self, place: int, outcome: Any) -> None:
        if isinstance(outcome, list):
            self._room -= sum([array.nbytes for array in outcome if array is not None])
            if self._room < 0:
                limit = self._client.engine.settings.tensor_limit
                outcome = EngineError(texts.TENSORS_TOO_LARGE % (limit - self._room, limit))
        self._take(place, outcome)

    def _take(self, place: int, outcome: Any) -> None:
        """Take one of several outcomes, and go on with the last one."""
        self._outcomes[place] = outcome
        self._waiting -= 1
        if not self._waiting:
            self.go_on(self._outcomes)

    def _got(self, outcome: Any) -> None:
        if isinstance(outcome, EngineError):
            self._throw(outcome)
        else:
            self.go_on(outcome)


def carry_out(
    client: Client,
    body: Plan,
    done: Callable[[bytes], None],
    *,
    request: Sequence[bytes] | None = None,
    began_at: float | None = None,
) -> None:
    """
    Run a body inside the command that is running. `done` gets its reply even if the connection is lost.

    With `began_at`, it goes on what began in an earlier turn. `request` is Task's.
    """

    def ended(part: Task) -> None:
        client.parts.discard(part)
        done(replies.joined(part.reply or b""))

    part = Task(client, body, ended, silent=False, request=request, began_at=began_at)
    client.parts.add(part)
    if client.lost:
        part.end(client.lost)
    else:
        part.go_on()


class ShortWay:
    """
    A command in progress that needs no body, as long as all is well (`commands/short/`). `reply` is None until it ends.

    With `busy`, later requests of the client wait until then. `request` are the words, for a body that has to ask Redis
    about them.
    """

    def __init__(self, client: Client, request: Sequence[bytes], *, busy: bool) -> None:
        self.reply: Reply | None = None
        self.silent = False
        self.is_detached = False
        self.busy = busy
        self._client = client
        self._request = request
        self._began_at = client.engine.turn.began_at

    def begin(self) -> None:
        """Ask Redis for what is needed first. The end of this turn sends it."""
        raise NotImplementedError

    def end(self, reply: Reply) -> None:
        """Set the reply and serve the client. A no-op once it is set."""
        if self.reply is None:
            self.reply = reply
            self.is_detached = True
            self._client.touch()

    def answered(self, got: list[Any]) -> None:
        """Take Redis' replies, as bytes."""
        if self.reply is not None:
            return
        try:
            self.take(got)
        except Exception:
            self.fail()

    def take(self, got: list[bytes]) -> None:
        """Go on with Redis' replies."""
        raise NotImplementedError

    def go_on(self, body: Plan) -> None:
        """Go on the ordinary way."""
        request = self._request if self.busy else None
        carry_out(self._client, body, self.end, request=request, began_at=self._began_at)

    def fail(self) -> None:
        """Answer for a bug in the engine; the log has the details."""
        _log.exception("a command failed because of a bug in the engine")
        self.end(replies.error(texts.ENGINE_FAILED))
