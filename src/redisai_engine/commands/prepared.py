"""
DAGs of a form that was seen before: the short way for predictions, which repeat one form with other numbers.

Theory of operation. A client that predicts sends the same AI.DAGEXECUTE_RO again and again; only the blobs differ.
The first one is carried out by dag.py and makes a `PreparedDag`: the arguments as a pattern with holes for the blobs,
and everything that follows from the others. A request that fits the pattern needs no parsing: its blobs become
arrays, the model runs, the outputs become the reply. What isn't as simple as that (LOAD, VALUES, several models, a
model or a right that has to be looked up, a blob of another size) goes the long way, so this module has no error
texts and no behaviour of its own: the answers are dag.py's, only sooner.

Invariant: a request that is taken here needs nothing of Redis but, behind a plain command of the same pipeline, the
model's id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from redisai_engine import store
from redisai_engine.commands.numbers import integer
from redisai_engine.commands.options import Words
from redisai_engine.commands.run import READ_RIGHT
from redisai_engine.commands.table import COMMANDS
from redisai_engine.errors import EngineError
from redisai_engine.execution.job import TIMED_OUT, Job
from redisai_engine.protocol import dtypes, replies
from redisai_engine.protocol.dtypes import DType
from redisai_engine.protocol.tensor import Buffer, Tensor, element_count

if TYPE_CHECKING:
    from redisai_engine.backends.base import Array, LoadedModel
    from redisai_engine.session import Session

    Answered = Callable[["PreparedRun"], None]

ROUTE_RIGHT = b"e"
_SEPARATOR = b"|>"
_META_AND_BLOB = ((), (b"META", b"BLOB"), (b"BLOB", b"META"))


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
        return np.frombuffer(blob, self._dtype.numpy).reshape(self._shape) if len(blob) == self._size else None


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
    """One form. `accepts` tells whether a request has it, `run` carries it out."""

    def __init__(self, arguments: Sequence[bytes]) -> None:
        """Raises ValueError for a form that only dag.py can do."""
        form = Form(arguments)
        self.routing = form.routing
        self.timeout_ms = form.timeout_ms
        self.model_key = form.model_key
        self.order = [form.holes[name] for name in form.inputs]
        self.outputs = len(form.outputs)
        self.gets = form.gets  # the outputs that are answered, by number
        self.sets = len(form.holes)
        self.before_gets = b"*%d\r\n" % (self.sets + 1 + len(self.gets)) + replies.OK * (self.sets + 1)
        # The arguments between the holes: from, to, and what they are.
        edges = [-1, *sorted(hole.place for hole in self.order), len(arguments)]
        self._fixed = [(low + 1, high, list(arguments[low + 1 : high])) for low, high in pairwise(edges)]

    def accepts(self, arguments: list[bytes]) -> bool:
        """Tells whether a request of as many arguments differs in its blobs only."""
        for low, high, fixed in self._fixed:  # noqa: SIM110  # a generator costs more than all the comparisons
            if arguments[low:high] != fixed:
                return False
        return True

    def run(self, session: Session, arguments: list[bytes], answered: Answered) -> PreparedRun | None:
        """Begins with a request that `accepts` took; None if it has to go the long way."""
        known = session.engine.models.known(session.database, self.model_key)
        if known is None or not self._fits(known.model.loaded):
            return None
        if not (session.has_rights(self.model_key, READ_RIGHT) and session.has_rights(self.routing, ROUTE_RIGHT)):
            return None
        arrays = []
        for hole in self.order:
            array = hole.fill(arguments[hole.place])
            if array is None:
                return None
            arrays.append(array)
        run = PreparedRun(self, answered)
        job = Job(known.model, arrays, session.engine.deadline(self.timeout_ms), run.done)
        if session.may_trust:
            session.engine.executor.submit(job)
        else:
            run.check(session, job, known.id, arguments)
        return run

    def _fits(self, model: LoadedModel) -> bool:
        return len(model.inputs) == len(self.order) and len(model.outputs) == self.outputs


class PreparedRun:
    """A request on its way; `reply` is None until it is answered."""

    __slots__ = ("_answered", "_dag", "is_detached", "reply", "silent")

    def __init__(self, dag: PreparedDag, answered: Answered) -> None:
        self.reply: bytes | None = None
        self.silent = False
        self.is_detached = True  # it needs Redis no more
        self._dag = dag
        self._answered = answered

    def check(self, session: Session, job: Job, id_: bytes, arguments: list[bytes]) -> None:
        """
        Asks whether the key still holds that model, then runs it; later requests are sent meanwhile.

        If it doesn't, the request goes the long way after all.
        """

        def answered(held: list[Any]) -> None:
            self.is_detached = True
            if held[0] == id_:
                session.engine.executor.submit(job)
                session.engine.plan_turn()
            else:
                session.engine.models.forget(session.database, self._dag.model_key)
                session.carry_out(COMMANDS[b"AI.DAGEXECUTE_RO"].body(session, arguments), self.end)

        self.is_detached = False
        session.upstream.ask([(b"HGET", self._dag.model_key, store.ID)], answered)

    def done(self, outcome: Any) -> None:
        """Takes the model's outcome."""
        if type(outcome) is list:
            self.end(self._encode(outcome))
        elif outcome is TIMED_OUT:
            self.end(replies.TIMEDOUT)
        else:
            self.end(self._failed(outcome))

    def end(self, reply: bytes) -> None:
        """Sets the reply, unless that happened before."""
        if self.reply is None:
            self.reply = reply
            self._answered(self)

    def _encode(self, outputs: list[Array | None]) -> bytes:
        pieces: list[Buffer] = [self._dag.before_gets]
        for i in self._dag.gets:
            array = outputs[i]
            if array is None:
                pieces.append(replies.NA)
                continue
            char = array.dtype.char
            blob = Tensor.from_array(array).blob if char in "OU" else array.tobytes()
            pieces += (_head(char, array.shape), b"$%d\r\n" % len(blob), blob, b"\r\n")
        return b"".join(pieces)

    def _failed(self, error: EngineError) -> bytes:
        sets = [replies.OK] * self._dag.sets
        return replies.array([*sets, replies.error(error.wire), *[replies.NA] * len(self._dag.gets)])


@lru_cache(maxsize=4096)
def _head(char: str, shape: tuple[int, ...]) -> bytes:
    """AI.TENSORGET's reply up to the blob."""
    dtype = dtypes.by_numpy(np.dtype(char))
    assert dtype is not None  # backends give what tensors can hold
    dimensions = replies.array([replies.integer(dimension) for dimension in shape])
    words = [replies.text("dtype"), replies.text(dtype.name), replies.text("shape"), dimensions, replies.text("blob")]
    return b"*6\r\n" + b"".join(words)


class PreparedDags:
    """The forms that one connection sent lately."""

    _LIMIT = 32

    def __init__(self) -> None:
        self._forms: dict[tuple[int, bytes], PreparedDag | None] = {}

    def find(self, arguments: list[bytes]) -> PreparedDag | None:
        """Gives the form of a request, if it is a simple one."""
        key = (len(arguments), arguments[2] if len(arguments) > 2 else b"")
        form = self._forms.get(key)
        if form is not None and form.accepts(arguments):
            return form
        if len(self._forms) > self._LIMIT:
            self._forms.clear()
        try:
            form = self._forms[key] = PreparedDag(arguments)
        except ValueError:
            form = self._forms[key] = None
        return form
