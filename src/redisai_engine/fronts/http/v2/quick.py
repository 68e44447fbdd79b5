"""
The fast path of `POST /v2/models/{name}/infer`: what takes one turn of the event loop, without generators and tasks.

A request whose model and rights are known, whose body is small and right, and which names the model's own inputs runs
here. Any other one is left to `inference.py`, which says what is wrong with it. Both read, run and write with the same
functions, so this module has no grammar, no error texts and no behaviour of its own.

Invariant: a request is left, or its owner gets its answer or its error, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from redisai_engine.commands.ai.resolving import known_model
from redisai_engine.commands.budget import reply_budget
from redisai_engine.commands.client import Client
from redisai_engine.errors import EngineError, forget_frames
from redisai_engine.execution.job import Job, form_of
from redisai_engine.fronts.http.access.answers import HttpAnswer, Stopwatch
from redisai_engine.fronts.http.v2.columns import is_by_signature
from redisai_engine.fronts.http.v2.models import V2Model, v2_model
from redisai_engine.fronts.http.v2.outputs import QUICK_TEXTS, inputs_of, is_quick, outputs_of, response
from redisai_engine.fronts.http.v2.requests import InferRequest, ManyTexts, parse_request


class QuickOwner(Protocol):
    """Whose request it is."""

    def left(self, request: QuickInference) -> None:
        """Do it in the regular way."""

    def answer(self, request: QuickInference, answer: HttpAnswer | EngineError) -> None:
        """Write the answer."""


class QuickInference(Job):
    """
    A request in flight. The public names after `shown` are those that uvicorn's protocol uses of a cycle.

    `json_size` is how many bytes of the body are JSON; None: all of them. `shown` is the model's name as a header has
    it.
    """

    __slots__ = (
        "_answer",
        "_v2",
        "_wanted",
        "_watch",
        "body",
        "connection",
        "disconnected",
        "headers",
        "json_size",
        "keep_alive",
        "name",
        "owner",
        "response_complete",
        "shown",
    )

    def __init__(  # noqa: PLR0917  # keywords would take longer
        self,
        owner: Any,
        connection: Any,
        name: bytes,
        shown: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        json_size: int | None,
    ) -> None:
        # Job's own fields are set once its model is known.
        self.owner = owner
        self.connection = connection
        self.name = name
        self.shown = shown
        self.headers = headers
        self.body = body
        self.json_size = json_size
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False
        self._watch = Stopwatch()
        self._answer: HttpAnswer | EngineError | None = None

    @property
    def message_event(self) -> QuickInference:
        return self

    def set(self) -> None:
        """Wake whoever waits for the request's next part: nobody does."""

    @property
    def url(self) -> bytes:
        """A path of the protocol in which errors are answered."""
        return b"/v2"

    def begin(self) -> None:
        """Submit the run, or leave the request."""
        try:
            is_taken = self._submit(self.connection.client)
        except Exception:  # a bug, on which the regular way fails, too: it logs and answers it
            is_taken = False
        if not is_taken:
            self.owner.left(self)

    def _submit(self, client: Client) -> bool:
        if client.lost or not client.may_trust:
            return False
        known = known_model(client, self.name)
        if known is None:
            return False
        engine = client.engine
        try:
            request = parse_request(self.body, self.json_size, most_texts=QUICK_TEXTS)
            if is_by_signature(request, known.model):
                return False
            seconds = request.timeout_seconds
            v2 = v2_model(known.model)
            arrays = inputs_of(request, v2)
        except (EngineError, ManyTexts):
            return False
        model = v2.form or known.model
        self.model = model
        self.inputs = arrays
        self.deadline = None if seconds is None else engine.loop.time() + seconds
        self.device = model.device
        self.form = form_of(arrays, with_text=model.takes_text)
        self.rows = 0
        self.taken_at = engine.turn.began_at
        self.started_at = 0.0
        self.front = client.front_number
        self._wanted: InferRequest = request
        self._v2: V2Model = v2
        self.body = b""
        self._watch.end(b"prepare")
        engine.executor.submit(self)
        return True

    def done(self, outcome: Any) -> None:
        """Make the answer of the run's outcome."""
        client: Client = self.connection.client
        request = self._wanted
        try:
            outputs = outputs_of(request, self._v2, outcome)
            self._watch.ran([self])
            reply_budget(client.engine.settings).take(sum([array.nbytes for array in outputs.values()]))
        except EngineError as error:
            self._got(error)
            return
        if is_quick(request, outputs):
            self._got(response(self.name, request, outputs))
        else:
            client.engine.encoder.compute(lambda: response(self.name, request, outputs), self._got)

    def _got(self, answer: HttpAnswer | EngineError) -> None:
        if isinstance(answer, EngineError):
            forget_frames(answer)
            self.connection.client.engine.ledger.failed(answer)
        else:
            self._watch.end(b"encode")
            answer.headers = [*answer.headers, (b"x-deployment", self.shown), self._watch.header()]
        self._answer = answer
        self.connection.finished(self)

    def deliver(self) -> None:
        """Hand the answer over."""
        assert self._answer is not None
        self.owner.answer(self, self._answer)
