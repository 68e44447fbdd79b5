"""
DAGs of a form that was seen before: the short way for predictions, which repeat one form with other numbers.

Theory of operation. A client that predicts sends the same AI.DAGEXECUTE_RO again and again; only the blobs differ.
The first one is carried out by dag.py and makes a `PreparedDag`: the arguments as a pattern with holes for the blobs,
and everything that follows from the others. A request that fits the pattern needs no parsing, from the second on not
even into arguments: its blobs become arrays, the model runs, the outputs become the reply. What isn't as simple as
that (LOAD, VALUES, several models, a model or a right that has to be looked up, a blob of another size) goes the long
way, so this module has no error texts and no behaviour of its own: the answers are dag.py's, only sooner.

Invariant: a request that is taken here needs nothing of Redis but, behind a plain command of the same pipeline, the
model's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from redisai_engine.commands.ai.model_options import Words
from redisai_engine.commands.ai.tensor import meta_before_blob, tensor_reply
from redisai_engine.commands.hashes import READ_RIGHT
from redisai_engine.commands.numbers import integer
from redisai_engine.commands.table import COMMANDS
from redisai_engine.errors import EngineError
from redisai_engine.execution.job import TIMED_OUT, Job, RunnableModel
from redisai_engine.fronts.resp.output import Reply
from redisai_engine.protocol import dtypes, replies
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.layouts import Template
from redisai_engine.protocol.tensor import MAX_DIMENSIONS, Buffer, Tensor, element_count
from redisai_engine.redis import store

if TYPE_CHECKING:
    from redisai_engine.backends.base import Array, LoadedModel
    from redisai_engine.fronts.resp.session import Session
    from redisai_engine.service.models import Known

ROUTE_RIGHT = b"e"
LARGE = 64 * 1024  # bytes; from here on one more piece to write costs less than a copy
_SEPARATOR = b"|>"
_META_AND_BLOB = ((), (b"META", b"BLOB"), (b"BLOB", b"META"))
_META_WITH_BLOB = frozenset((b"META", b"BLOB"))


class Hole:
    """A blob's place among the arguments, and what stands there."""

    __slots__ = ("_count", "_dtype", "_shape", "_size", "place")

    def __init__(self, place: int, dtype: DType, shape: tuple[int, ...]) -> None:
        self.place = place
        self._dtype = dtype
        self._shape = shape
        self._count = element_count(shape)
        self._size = dtype.size * self._count

    def fill(self, blob: bytes) -> Array | None:
        """Gives the blob's elements; None if it isn't right for dtype and shape."""
        if self._dtype.is_string:
            whole = blob.count(0) == self._count and blob[-1:] == b"\0"
            return Tensor(self._dtype, self._shape, blob).array() if whole else None
        return np.ndarray(self._shape, self._dtype.numpy, blob) if len(blob) == self._size else None


class Form:
    """Reads the arguments of a DAG. Raises ValueError for a form that only dag.py can do."""

    def __init__(self, arguments: Sequence[bytes]) -> None:
        self._words = Words(list(arguments), position=1)
        self.routing = b""
        self.timeout_ms: int | None = None
        self.holes: dict[bytes, Hole] = {}
        self.model_key = b""
        self.inputs: list[bytes] = []
        self.outputs: list[bytes] = []  # empty: the model's operation has not come yet
        self.gets: list[int] = []
        self._scopes()
        self._operation()
        while self._words.take_if(_SEPARATOR):
            self._operation()
        if self._words.rest or not self.outputs or sorted(self.inputs) != sorted(self.holes):
            raise ValueError

    def _scopes(self) -> None:
        words = self._words
        routed = False
        while not words.take_if(_SEPARATOR):
            if not routed and words.take_if(b"ROUTING"):
                routed = True
                self.routing = words.take() or b""
            elif self.timeout_ms is None and words.take_if(b"TIMEOUT"):
                self.timeout_ms = self._positive()
            else:
                raise ValueError
        if not routed:
            raise ValueError

    def _positive(self) -> int:
        number = integer(self._words.take() or b"")
        if number is None or number <= 0:
            raise ValueError
        return number

    def _operation(self) -> None:
        words = self._words
        if not self.outputs and words.take_if(b"AI.TENSORSET"):
            self._tensorset()
        elif not self.outputs and words.take_if(b"AI.MODELEXECUTE"):
            self._modelexecute()
        elif self.outputs and words.take_if(b"AI.TENSORGET"):
            self._tensorget()
        else:
            raise ValueError

    def _tensorset(self) -> None:
        words = self._words
        name, dtype = words.take(), dtypes.by_wire_name(words.take() or b"")
        shape = []
        while not words.take_if(b"BLOB"):
            shape.append(self._positive())
        # The values of a BOOL blob have to be looked at.
        if name is None or dtype is None or dtype is dtypes.BOOL or name in self.holes:
            raise ValueError
        if len(shape) > MAX_DIMENSIONS:
            raise ValueError
        self.holes[name] = Hole(words.position, dtype, tuple(shape))
        words.take()

    def _modelexecute(self) -> None:
        self.model_key = self._words.take() or b""
        self.inputs = self._names(b"INPUTS")
        self.outputs = self._names(b"OUTPUTS")
        if len(set(self.outputs)) < len(self.outputs) or set(self.outputs) & set(self.inputs):
            raise ValueError

    def _names(self, keyword: bytes) -> list[bytes]:
        if not self._words.take_if(keyword):
            raise ValueError
        count = self._positive()
        names = self._words.take_many(count)
        if len(names) < count:
            raise ValueError
        return names

    def _tensorget(self) -> None:
        words = self._words
        name = words.take()
        form = []
        while words.rest and words.rest[0] != _SEPARATOR:
            form.append((words.take() or b"").upper())
        if name not in self.outputs or tuple(form) not in _META_AND_BLOB:
            raise ValueError
        self.gets.append(self.outputs.index(name))


class PreparedDag:
    """One form of one connection. `accepts` tells whether a request has it, `run` carries it out."""

    def __init__(self, arguments: Sequence[bytes]) -> None:
        """Raises ValueError for a form that only dag.py can do."""
        form = Form(arguments)
        self._routing = form.routing
        self._timeout_s = None if form.timeout_ms is None else form.timeout_ms / 1000
        self.model_key = form.model_key
        self._holes = [form.holes[name] for name in form.inputs]
        self._places = [hole.place for hole in self._holes]
        self._outputs = len(form.outputs)
        self.gets = form.gets  # the outputs that are answered, by number
        self.sets = len(form.holes)
        self.before_gets = b"*%d\r\n" % (self.sets + 1 + len(self.gets)) + replies.OK * (self.sets + 1)
        # The arguments between the holes: from, to, and what they are.
        edges = [-1, *sorted(self._places), len(arguments)]
        self._fixed = [(low + 1, high, list(arguments[low + 1 : high])) for low, high in pairwise(edges)]
        self._first = list(arguments)
        self._template: Template | None = None
        # What was found out about model and rights, and how long it holds.
        self._known: Known | None = None
        self._database = 0
        self._changes = 0
        self._holds_until = 0.0

    @property
    def template(self) -> Template:
        """How requests of this form stand in the bytes, made when it is first needed; reads their blobs."""
        if self._template is None:
            self._template = Template(self._first, self._places)
        return self._template

    def accepts(self, arguments: list[bytes]) -> bool:
        """Tells whether a request of as many arguments differs in its blobs only."""
        for low, high, fixed in self._fixed:  # noqa: SIM110  # a generator costs more than all the comparisons
            if arguments[low:high] != fixed:
                return False
        return True

    def blobs(self, arguments: list[bytes]) -> list[bytes]:
        """Gives the blobs of a request that `accepts` took."""
        return [arguments[place] for place in self._places]

    def arguments(self, blobs: list[bytes]) -> list[bytes]:
        """Gives the request that has these blobs."""
        whole = list(self._first)
        for place, blob in zip(self._places, blobs, strict=True):
            whole[place] = blob
        return whole

    def run(self, session: Session, blobs: list[bytes]) -> PreparedRun | None:
        """Begins with a request; None if it has to go the long way."""
        engine = session.engine
        now = engine.loop.time()
        known = self._known if now < self._holds_until else None
        if known is None or engine.models.changes != self._changes or session.database != self._database:
            known = self._look_up(session)
            if known is None:
                return None
        arrays = []
        for hole, blob in zip(self._holes, blobs):  # noqa: B905  # there are as many; being strict costs time
            array = hole.fill(blob)
            if array is None:
                return None
            arrays.append(array)
        deadline = None if self._timeout_s is None else now + self._timeout_s
        run = PreparedRun(self, session, known.model, arrays, deadline)
        if session.may_trust:
            engine.executor.submit(run)
        else:
            run.check(known.id, blobs)
        return run

    def _look_up(self, session: Session) -> Known | None:
        """Finds the model and sees that it and the rights are known without asking Redis."""
        models = session.engine.models
        self._known = known = models.known(session.database, self.model_key)
        if known is None or not self._fits(known.model.loaded):
            return None
        rights = ((self.model_key, READ_RIGHT), (self._routing, ROUTE_RIGHT))
        if not all(session.rights.has(*right) for right in rights):
            return None
        self._database, self._changes = session.database, models.changes
        self._holds_until = min(known.expires_at, *(session.rights.until(*right) for right in rights))
        return known

    def _fits(self, model: LoadedModel) -> bool:
        return len(model.inputs) == len(self._holes) and len(model.outputs) == self._outputs

    def forget(self) -> None:
        """Trusts nothing that was found out before."""
        self._holds_until = 0.0


class PreparedRun(Job):
    """
    A request on its way; `reply` is None until it is answered.

    It takes its outcome itself, since a bound method in it would be a cycle, which only gc could free.
    """

    __slots__ = ("_dag", "_session", "is_detached", "reply", "silent")

    def __init__(
        self, dag: PreparedDag, session: Session, model: RunnableModel, arrays: list[Array], deadline: float | None
    ) -> None:
        # Job's own fields, set here: its __init__ would take as long as all of this.
        self.model = model
        self.inputs = arrays
        self.deadline = deadline
        self.device = model.device
        self.elements = arrays[0].size if len(arrays) == 1 else sum([array.size for array in arrays])
        self.rows = 0
        self.reply: Reply | None = None
        self.silent = False
        self.is_detached = True  # it needs Redis no more
        self._dag = dag
        self._session = session

    def check(self, id_: bytes, blobs: list[bytes]) -> None:
        """
        Asks whether the key still holds that model, then runs it; later requests are sent meanwhile.

        If it doesn't, the request goes the long way after all.
        """
        session, dag = self._session, self._dag

        def answered(held: list[Any]) -> None:
            self.is_detached = True
            if held[0] == id_:
                session.engine.executor.submit(self)
                session.engine.plan_turn()
            else:
                session.engine.models.forget(session.database, dag.model_key)
                session.carry_out(COMMANDS[b"AI.DAGEXECUTE_RO"].body(session, dag.arguments(blobs)), self.end)

        self.is_detached = False
        session.upstream.ask([(b"HGET", dag.model_key, store.ID)], answered)

    def end(self, reply: Reply) -> None:
        """Sets the reply, unless that happened before."""
        if self.reply is None:
            self.reply = reply
            self._session.engine.answered(self._session)

    def done(self, outcome: Any) -> None:
        """Takes the model's outcome."""
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
                continue
            head = _head(array.dtype, array.shape)
            if head is None:
                pieces.append(tensor_reply(Tensor.from_array(array), _META_WITH_BLOB, 2))
                continue
            size += array.nbytes
            pieces += (head, array.tobytes() if array.nbytes < LARGE else _view(array), b"\r\n")
        return b"".join(pieces) if size < LARGE else pieces

    def _failed(self, error: EngineError) -> bytes:
        sets = [replies.OK] * self._dag.sets
        return replies.array([*sets, replies.error(error.wire), *[replies.NA] * len(self._dag.gets)])


def _view(array: Array) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")


@lru_cache(maxsize=4096)
def _head(numpy: np.dtype[Any], shape: tuple[int, ...]) -> bytes | None:
    """AI.TENSORGET's reply up to the bytes of the blob; None where shape and dtype don't tell how many there are."""
    dtype = dtypes.by_numpy(numpy)
    assert dtype is not None  # backends give what tensors can hold
    if dtype.is_string:
        return None
    return b"%b$%d\r\n" % (meta_before_blob(dtype, shape), dtype.size * element_count(shape))


class PreparedDags:
    """The forms that one connection sent lately. `latest` is the one that came at least twice, most recently."""

    _LIMIT = 32

    def __init__(self) -> None:
        self._forms: dict[tuple[int, bytes], PreparedDag | None] = {}
        self.latest: PreparedDag | None = None

    def find(self, arguments: list[bytes]) -> PreparedDag | None:
        """Gives the form of a request, if it is a simple one."""
        key = (len(arguments), arguments[2] if len(arguments) > 2 else b"")
        form = self._forms.get(key)
        if form is not None and form.accepts(arguments):
            self.latest = form
            return form
        if len(self._forms) > self._LIMIT:
            self._forms.clear()
        try:
            form = self._forms[key] = PreparedDag(arguments)
        except ValueError:
            form = self._forms[key] = None
        return form

    def forget(self) -> None:
        """Has every form look up again what it knows."""
        for form in self._forms.values():
            if form is not None:
                form.forget()
        if self.latest is not None:
            self.latest.forget()
