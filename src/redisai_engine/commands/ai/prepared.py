"""
The fast path for predictions: DAGs whose form was seen before, with other numbers in them.

Theory of operation. A client that predicts sends the same AI.DAGEXECUTE_RO again and again; only the blobs differ. The
first one is described by the grammar (`grammar/dags.py`), and a `PreparedDag` is built from the description: the
arguments as a pattern with holes for the blobs, and everything that follows from the fixed ones. A request that fits
the pattern needs no parsing: its blobs become arrays, the model runs, and the outputs become the reply. Once a form has
come twice, further requests aren't even split into arguments; their blobs are cut straight out of the received bytes.
Anything less simple (LOAD, VALUES, several models, a model or a right that must be looked up, a blob of another size)
falls back to the regular path. So this module has no grammar, no error texts and no behaviour of its own: its answers
are those of `dag.py`, only sooner.

Invariant: a request taken here needs nothing from Redis except, behind a plain command of the same pipeline, the
model's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from redisai_engine.backends.base import Array, LoadedModel
from redisai_engine.commands.ai.dag import ROUTE_RIGHT, dagexecute_ro
from redisai_engine.commands.ai.resolving import known_model
from redisai_engine.commands.ai.tensor_reply import add_array
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.dags import Dag, GetTensor, RunModel, SetTensor, parse_dag
from redisai_engine.commands.grammar.tensors import META_AND_BLOB
from redisai_engine.commands.grammar.traces import trace_in
from redisai_engine.commands.hashes import READ_RIGHT
from redisai_engine.commands.task import carry_out
from redisai_engine.errors import EngineError
from redisai_engine.execution.job import TIMED_OUT, Job, RunnableModel, form_of
from redisai_engine.protocol import dtypes, replies, texts
from redisai_engine.protocol.layouts import Template
from redisai_engine.protocol.replies import Reply
from redisai_engine.protocol.tensor import Buffer, Tensor, element_count, holds_texts
from redisai_engine.redis import store
from redisai_engine.redis.metadata import MAX_METADATA
from redisai_engine.service.models import KnownModel

_MOST_TEXTS = 2**20  # elements of a STRING tensor
_MOST_WORDS = 1000  # of a request that is worth preparing
_MOST_BYTES = 2**16  # of its words besides the blobs, which are kept


class Hole:
    """The position of a blob among the arguments, and the tensor that the blob stands for."""

    __slots__ = ("_count", "_dtype", "_shape", "_size", "place")

    def __init__(self, place: int, tensor: Tensor) -> None:
        self.place = place
        self._dtype = tensor.dtype
        self._shape = tensor.shape
        self._count = element_count(tensor.shape)
        self._size = tensor.dtype.size * self._count

    def fill(self, blob: bytes) -> Array | None:
        """Return the blob's elements; None if the blob doesn't fit dtype and shape."""
        if self._dtype.is_string:
            return Tensor(self._dtype, self._shape, blob).array() if holds_texts(blob, self._count) else None
        return np.ndarray(self._shape, self._dtype.numpy, blob) if len(blob) == self._size else None


class Form:
    """The parts of a simple DAG: tensors that came as blobs, one run of a model on all of them, requested outputs."""

    def __init__(self, dag: Dag) -> None:
        """Raise ValueError for a DAG that only `dag.py` can carry out."""
        if dag.scopes_error or dag.operations_error or dag.load or dag.routing is None or trace_in(dag.routing):
            raise ValueError
        sets = [operation for operation in dag.operations if isinstance(operation, SetTensor)]
        gets = [operation for operation in dag.operations if isinstance(operation, GetTensor)]
        runs = [operation for operation in dag.operations if isinstance(operation, RunModel)]
        # In any other order an operation could overwrite what another one reads; that is left to dag.py.
        if len(runs) != 1 or dag.operations != [*sets, *runs, *gets]:
            raise ValueError
        self.run = runs[0]
        self.routing = dag.routing
        self.timeout_ms = dag.timeout_ms
        self.holes = self._holes(sets)
        self.sets = len(sets)
        self.gets = self._gets(gets)

    def _holes(self, sets: list[SetTensor]) -> list[Hole]:
        """Return the holes in the order of the model's inputs. Raise ValueError unless each tensor is used once."""
        if self.run.call.error is not None or sorted(self.run.inputs) != [operation.place for operation in sets]:
            raise ValueError
        holes = {operation.place: _hole(operation) for operation in sets}
        return [holes[place] for place in self.run.inputs]

    def _gets(self, gets: list[GetTensor]) -> list[int]:
        """Return the numbers of the outputs that the request asks for."""
        if any(operation.form != META_AND_BLOB for operation in gets):
            raise ValueError
        return [self.run.outputs.index(operation.place) for operation in gets]


def _hole(operation: SetTensor) -> Hole:
    # A BOOL blob's values must be checked, which only the grammar does.
    tensor = operation.words.tensor
    if operation.blob_at is None or tensor.dtype is dtypes.BOOL:
        raise ValueError
    if tensor.dtype.is_string and element_count(tensor.shape) > _MOST_TEXTS:  # they must be counted
        raise ValueError
    return Hole(operation.blob_at, operation.words.tensor)


class PreparedDag:
    """One form of one client's DAGs. `accepts` recognizes a request of this form, and `run` carries it out."""

    def __init__(self, arguments: Sequence[bytes]) -> None:
        """Raise ValueError for a form that only `dag.py` can carry out."""
        form = Form(parse_dag(arguments, read_only=True, deprecated=False))
        self._routing = form.routing
        self._timeout_s = None if form.timeout_ms is None else form.timeout_ms / 1000
        self.model_key = form.run.key
        self._holes = form.holes
        self._positions = [hole.place for hole in form.holes]
        self._outputs = len(form.run.outputs)
        self.gets = form.gets  # the numbers of the outputs that the request asks for
        self.sets = form.sets
        self.before_gets = b"*%d\r\n" % (self.sets + 1 + len(self.gets)) + replies.OK * (self.sets + 1)
        # The arguments between the holes: start, end, and the words there.
        edges = [-1, *sorted(self._positions), len(arguments)]
        self._fixed = [(low + 1, high, list(arguments[low + 1 : high])) for low, high in pairwise(edges)]
        # The blobs themselves may be large, so only their lengths are kept.
        self._lengths = {place: len(arguments[place]) for place in self._positions}
        self._first = [b"" if place in self._lengths else word for place, word in enumerate(arguments)]
        if sum(map(len, self._first)) > _MOST_BYTES:
            raise ValueError
        self._template: Template | None = None
        # What is known about the model and the rights, and for how long it holds.
        self._known: KnownModel | None = None
        self._database = 0
        self._model_changes = 0
        self._right_changes = 0
        self._holds_until = 0.0

    @property
    def template(self) -> Template:
        """The layout of this form's requests in the received bytes. Built on first use."""
        if self._template is None:
            self._template = Template(self._first, self._positions, self._lengths)
        return self._template

    def accepts(self, arguments: list[bytes]) -> bool:
        """Return whether a request with the same number of arguments differs only in its blobs."""
        for low, high, fixed in self._fixed:  # noqa: SIM110  # a generator costs more than all the comparisons
            if arguments[low:high] != fixed:
                return False
        return True

    def blobs(self, arguments: list[bytes]) -> list[bytes]:
        """Return the blobs of a request that `accepts` recognized."""
        return [arguments[place] for place in self._positions]

    def arguments(self, blobs: list[bytes]) -> list[bytes]:
        """Return the request that contains these blobs."""
        whole = list(self._first)
        for place, blob in zip(self._positions, blobs, strict=True):
            whole[place] = blob
        return whole

    def run(self, client: Client, blobs: list[bytes]) -> PreparedRun | None:
        """Start a request. Return None if it must take the regular path."""
        engine = client.engine
        now = engine.loop.time()
        # Comparing what the last lookup depended on costs less than repeating it.
        known = self._known if now < self._holds_until else None
        if (
            known is None
            or engine.models.changes != self._model_changes
            or client.rights.changes != self._right_changes
            or client.database != self._database
        ):
            known = self._look_up(client)
            if known is None:
                return None
        arrays = []
        for hole, blob in zip(self._holes, blobs):  # noqa: B905  # as many blobs as holes; strict=True would cost time
            array = hole.fill(blob)
            if array is None:
                return None
            arrays.append(array)
        deadline = None if self._timeout_s is None else now + self._timeout_s
        run = PreparedRun(self, client, known.model, arrays, deadline)
        if client.may_trust:  # see there: otherwise the known id must be confirmed first
            engine.executor.submit(run)
        else:
            run.check(known.id, blobs)
        return run

    def _look_up(self, client: Client) -> KnownModel | None:
        """Return the model if it and the rights are known without asking Redis."""
        rights = client.rights
        self._known = known = known_model(client, self.model_key)
        if known is None or not self._fits(known.model.loaded) or not rights.has(self._routing, ROUTE_RIGHT):
            return None
        self._database = client.database
        self._model_changes, self._right_changes = client.engine.models.changes, rights.changes
        until = rights.until(self.model_key, READ_RIGHT), rights.until(self._routing, ROUTE_RIGHT)
        self._holds_until = min(known.expires_at, *until)
        return known

    def _fits(self, model: LoadedModel) -> bool:
        return len(model.inputs) == len(self._holes) and len(model.outputs) == self._outputs


class PreparedRun(Job):
    """
    A request in flight; `reply` is None until it is answered.

    It takes its outcome itself (`done`): with a bound method of its own it would be a reference cycle, which only the
    garbage collector could free.
    """

    __slots__ = ("_client", "_dag", "is_detached", "reply", "silent")

    def __init__(
        self, dag: PreparedDag, client: Client, model: RunnableModel, arrays: list[Array], deadline: float | None
    ) -> None:
        # Job's own fields are set here, because calling its __init__ would take as long as all of this.
        self.model = model
        self.inputs = arrays
        self.deadline = deadline
        self.device = model.device
        self.form = form_of(arrays, with_text=model.takes_text)
        self.rows = 0
        self.taken_at = client.engine.turn.began_at
        self.front = client.front_number
        self.reply: Reply | None = None
        self.silent = False
        self.is_detached = True  # it needs nothing more from Redis
        self._dag = dag
        self._client = client

    def check(self, id_: bytes, blobs: list[bytes]) -> None:
        """
        Ask Redis whether the key still holds that model, then run it. Later requests are sent in the meantime.

        If the key holds another model, the request falls back to the regular path.
        """
        client, dag = self._client, self._dag

        def answered(held: list[Any]) -> None:
            self.is_detached = True
            if held[0] == id_:
                client.engine.executor.submit(self)
                client.engine.turn.plan()
            else:
                client.engine.models.forget(client.database, dag.model_key)
                carry_out(client, dagexecute_ro(client, dag.arguments(blobs)), self.end)

        self.is_detached = False
        client.upstream.ask([(b"HGET", dag.model_key, store.ID)], answered, MAX_METADATA)

    def end(self, reply: Reply) -> None:
        """Set the reply. A no-op once it is set."""
        if self.reply is None:
            self.reply = reply
            self._client.answered()

    def done(self, outcome: Any) -> None:
        """Turn the outcome of the run into the reply."""
        if type(outcome) is list:
            self.end(self._encode(outcome))
        elif outcome is TIMED_OUT:
            self.end(replies.TIMEDOUT)
        else:
            self.end(self._failed(outcome))

    def _encode(self, outputs: list[Array | None]) -> Reply:
        pieces: list[Buffer] = [self._dag.before_gets]
        size = 0
        for i in self._dag.gets:
            array = outputs[i]
            if array is None:
                pieces.append(replies.NA)
            else:
                size += array.nbytes
                add_array(pieces, array)
        if size < replies.LARGE:
            return b"".join(pieces)
        limit = self._client.engine.settings.reply_limit
        if size > limit:
            return replies.error(texts.REPLY_TOO_LARGE % (size, limit))
        return pieces  # joining would copy a large output

    def _failed(self, error: EngineError) -> bytes:
        sets = [replies.OK] * self._dag.sets
        return replies.array([*sets, replies.error(error.wire), *[replies.NA] * len(self._dag.gets)])


class PreparedDags:
    """The forms that one client has sent lately. `latest` is the most recent one that came at least twice."""

    _LIMIT = 32

    def __init__(self) -> None:
        self._forms: dict[tuple[int, bytes], PreparedDag | None] = {}
        self.latest: PreparedDag | None = None

    def find(self, arguments: list[bytes]) -> PreparedDag | None:
        """Return the form of a request; None if it isn't a simple one."""
        if len(arguments) > _MOST_WORDS:
            return None
        # The third word is mostly ROUTING's key: a cheap way to tell apart the models that a client uses.
        key = (len(arguments), arguments[2] if len(arguments) > 2 else b"")
        form = self._forms.get(key)
        if form is not None and form.accepts(arguments):
            self.latest = form
            return form
        if len(key[1]) > _MOST_BYTES:
            return None
        if len(self._forms) > self._LIMIT:
            self._forms.clear()
        try:
            form = self._forms[key] = PreparedDag(arguments)
        except ValueError:
            form = self._forms[key] = None
        return form
