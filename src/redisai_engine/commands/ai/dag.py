"""
AI.DAGEXECUTE, AI.DAGEXECUTE_RO and the deprecated AI.DAGRUN and AI.DAGRUN_RO.

Theory of operation. `grammar/dags.py` describes what the arguments say. Here keys are looked up, in RedisAI's order,
and the operations run. All operations that are ready run at the same time. An operation whose inputs were never filled,
because an earlier one failed, answers NA. Names exist only inside the DAG; only LOAD and PERSIST touch keys. A
read-only DAG whose form was seen before may take the fast path instead (`prepared.py`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from redisai_engine.backends.base import Array
from redisai_engine.commands.ai.resolving import RESOLVING, resolve_model
from redisai_engine.commands.ai.run import most_read, reading, stored
from redisai_engine.commands.ai.script_run import resolve_script
from redisai_engine.commands.ai.tensor import tensor_of
from redisai_engine.commands.ai.tensor_reply import (
    MANY,
    add_array,
    in_few_pieces,
    meta_of_array,
    tensor_reply,
)
from redisai_engine.commands.budget import Budget, reply_budget, tensor_budget
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.dags import CallFunction, Dag, GetTensor, RunModel, SetTensor, parse_dag
from redisai_engine.commands.grammar.keys import dag_keys
from redisai_engine.commands.grammar.tensors import META_AND_BLOB
from redisai_engine.commands.grammar.traces import trace_of
from redisai_engine.commands.steps import Encode, Plan, Read, Run, RunRequest, refuse_error
from redisai_engine.commands.table import READ, WRITE, InTransaction, Keys, command
from redisai_engine.errors import CommandError, EngineError
from redisai_engine.execution.job import TIMED_OUT, RunnableModel
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.protocol.tensor import Buffer, Tensor, element_count
from redisai_engine.redis import store
from redisai_engine.tracing.spans import Spans

_READING = (*RESOLVING, "GET")
_WRITING = (*_READING, "GETRANGE", "SET", "SETRANGE")
_KEYS = Keys(3, 3, 1, find=dag_keys)
ROUTE_RIGHT = b"e"  # the right to ask whether ROUTING's key exists, as `Rights` remembers it
_META = frozenset((b"META",))
_WRITE_RIGHT = b"w"  # the right to write a key, likewise


@command(
    "AI.DAGEXECUTE",
    arity=(6, None),
    arity_text=texts.DAG_ARITY % "AI.DAGEXECUTE",
    flags=WRITE,
    keys=_KEYS,
    in_transaction=InTransaction.REFUSE,
    summary="Runs operations one after another",
    made_of=_WRITING,
)
def dagexecute(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.DAGEXECUTE [LOAD count key ...] [PERSIST count key ...] [ROUTING key] [TIMEOUT ms] |> command ..."""
    return _traced_dag(client, arguments, read_only=False, deprecated=False)


@command(
    "AI.DAGEXECUTE_RO",
    arity=(6, None),
    arity_text=texts.DAG_ARITY % "AI.DAGEXECUTE_RO",
    flags=READ,
    keys=_KEYS,
    in_transaction=InTransaction.REFUSE,
    summary="Runs operations that write no key",
    made_of=_READING,
)
def dagexecute_ro(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.DAGEXECUTE_RO [LOAD count key ...] [ROUTING key] [TIMEOUT ms] |> command ..."""
    return _traced_dag(client, arguments, read_only=True, deprecated=False)


@command(
    "AI.DAGRUN",
    arity=(4, None),
    arity_text=texts.ARITY % "AI.DAGRUN",
    flags=WRITE,
    keys=_KEYS,
    in_transaction=InTransaction.REFUSE,
    summary="Deprecated form of AI.DAGEXECUTE",
    made_of=(*_WRITING, "PING"),
)
def dagrun(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.DAGRUN [LOAD count key ...] [PERSIST count key ...] [TIMEOUT ms] |> command ..."""
    return _traced_dag(client, arguments, read_only=False, deprecated=True)


@command(
    "AI.DAGRUN_RO",
    arity=(4, None),
    arity_text=texts.ARITY % "AI.DAGRUN_RO",
    flags=READ,
    keys=_KEYS,
    in_transaction=InTransaction.REFUSE,
    summary="Deprecated form of AI.DAGEXECUTE_RO",
    made_of=(*_READING, "PING"),
)
def dagrun_ro(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.DAGRUN_RO [LOAD count key ...] [TIMEOUT ms] |> command ..."""
    return _traced_dag(client, arguments, read_only=True, deprecated=True)


@dataclass(slots=True)
class Step:
    """A run that is part of the DAG: what runs, the places that it reads and those that it fills."""

    model: RunnableModel
    inputs: list[int]
    outputs: list[int]


class Progress:
    """
    The state of a running DAG: what its places hold, and the outcomes of its steps by operation number.

    `budget` is what its tensors may take, apart from those that the request brought.
    """

    def __init__(self, dag: Dag, budget: Budget) -> None:
        self.dag = dag
        self.budget = budget
        self.places: list[Tensor | Array | None] = [None] * dag.places  # None for an empty place
        self.steps: dict[int, Step] = {}
        self.done: set[int] = set()
        self.failed: dict[int, bytes] = {}

    def set_tensors(self) -> None:
        """Put the request's own tensors into their places."""
        for operation in self.dag.operations:
            if isinstance(operation, SetTensor):
                self.places[operation.place] = operation.words.tensor

    def is_ready(self, number: int) -> bool:
        return all(self.places[place] is not None for place in self.steps[number].inputs)

    def request(self, number: int) -> RunRequest:
        step = self.steps[number]
        return RunRequest(step.model, [self._array(place) for place in step.inputs])

    def _array(self, place: int) -> Array:
        value = self.places[place]
        assert value is not None  # the caller has checked is_ready()
        if not isinstance(value, Tensor):
            return value
        self.budget.take_array_of(value)
        return value.array()

    def take(self, number: int, outcome: Any) -> None:
        """Record the outcome of a run: its outputs, or an error."""
        if isinstance(outcome, EngineError):
            self.failed[number] = replies.error(outcome.wire)
            return
        self.done.add(number)
        for place, array in zip(self.steps[number].outputs, outcome, strict=True):
            self.budget.take(array.nbytes if array is not None else 0)
            self.places[place] = array

    def tensor(self, place: int) -> Tensor | None:
        value = self.places[place]
        return value if value is None or isinstance(value, Tensor) else Tensor.from_array(value)


def _traced_dag(client: Client, arguments: Sequence[bytes], *, read_only: bool, deprecated: bool) -> Plan:
    """Run a DAG, and make a span of it if it names its trace."""
    plan = _run_dag(client, arguments, read_only=read_only, deprecated=deprecated)
    spans = client.engine.spans
    trace = "" if spans is None else trace_of(arguments)
    return _span(spans, trace, arguments[0], plan) if spans is not None and trace else plan


def _span(spans: Spans, trace: str, name: bytes, plan: Plan) -> Plan:
    begin, failed = monotonic(), True
    try:
        reply = yield from plan
        failed = (reply if isinstance(reply, bytes) else b"".join(reply))[:1] == b"-"
    finally:
        context = {"traceparent": trace}
        spans.record(name.decode().upper(), context, {}, [("all", monotonic() - begin)], failed=failed)
    return reply


def _run_dag(client: Client, arguments: Sequence[bytes], *, read_only: bool, deprecated: bool) -> Plan:
    dag = yield from _described(arguments, read_only=read_only, deprecated=deprecated)
    deadline = client.engine.deadline(dag.timeout_ms)
    # The order of what follows is RedisAI's: it decides which of several errors a client sees.
    progress = Progress(dag, tensor_budget(client.engine.settings))
    if dag.load:
        numbers, commands = reading(dag.load)
        values = yield Read(commands, *most_read(client.engine.settings))
        tensors = [tensor_of(value) for value in values]
        progress.places[: len(numbers)] = [tensors[number] for number in numbers]
    if dag.scopes_error is not None:
        raise dag.scopes_error
    yield from _check_rights(client, dag)
    yield from _resolve(client, progress)
    if dag.operations_error is not None:
        raise dag.operations_error
    _count_zeros(progress)
    progress.set_tensors()
    if not (yield from _run(progress, deadline)):
        return replies.TIMEDOUT
    answers = yield from _answers(client, progress)
    # Nothing is persisted if an operation failed or could not run.
    if dag.persist and not any(answer[0][:1] == b"-" or answer[0] == replies.NA for answer in answers):
        answers += yield from _persist(progress)
    return in_few_pieces([b"*%d\r\n" % len(answers), *(piece for answer in answers for piece in answer)])


def _described(arguments: Sequence[bytes], *, read_only: bool, deprecated: bool) -> Generator[Any, Any, Dag]:
    def describe() -> Dag:
        return parse_dag(arguments, read_only=read_only, deprecated=deprecated)

    return describe() if len(arguments) < MANY else (yield Encode(describe))


def _count_zeros(progress: Progress) -> None:
    """Count the tensors that the request made without sending them."""
    for operation in progress.dag.operations:
        if isinstance(operation, SetTensor) and operation.blob_at is None:
            progress.budget.take(len(operation.words.tensor.blob))


def _check_rights(client: Client, dag: Dag) -> Generator[Any, Any, None]:
    """
    Send commands that change nothing, but that Redis refuses wherever it would refuse the DAG.

    SETRANGE with an empty value requires the right to write, and free memory. A WRONGTYPE error from it is ignored: the
    key may hold another type than a string, such as a model.
    """
    if not (dag.load or dag.persist or dag.routing is not None):  # a DAGRUN without keys only needs Redis to let it in
        refuse_error(*(yield [(b"PING",)]))
        return
    if dag.read_only:
        if dag.routing is not None and not client.rights.has(dag.routing, ROUTE_RIGHT):
            refuse_error(*(yield [(b"EXISTS", dag.routing)]))
            client.rights.grant(dag.routing, ROUTE_RIGHT)
        return
    keys = {*dag.load, *(dag.persist or ()), *(() if dag.routing is None else (dag.routing,))}
    if not all(client.rights.has(key, _WRITE_RIGHT) for key in keys):
        answers = yield [(b"SETRANGE", key, b"0", b"") for key in keys]
        refuse_error(*(answer for answer in answers if not _is_wrong_type(answer)))
        for key in keys:
            client.rights.grant(key, _WRITE_RIGHT)


def _is_wrong_type(answer: object) -> bool:
    return isinstance(answer, ReplyError) and answer.text.startswith("WRONGTYPE")


def _resolve(client: Client, progress: Progress) -> Generator[Any, Any, None]:
    """Look up models and scripts, one operation after another."""
    for number, operation in enumerate(progress.dag.operations):
        if isinstance(operation, RunModel):
            model = yield from resolve_model(client, operation.key)
            operation.call.check(len(model.loaded.inputs), len(model.loaded.outputs))
            progress.steps[number] = Step(model, operation.inputs, operation.outputs)
        elif isinstance(operation, CallFunction):
            script = yield from resolve_script(client, operation.key)
            operation.call.check()
            runnable = script.runnable(client, operation.function, operation.call)
            progress.steps[number] = Step(runnable, operation.inputs, operation.outputs)


def _run(progress: Progress, deadline: float | None) -> Generator[Any, Any, bool]:
    """Run all steps, at the same time those that are ready. Return False if the time ran out."""
    detached = not progress.dag.needs_redis
    waiting = list(progress.steps)  # in order
    # A DAG without runs waits for its turn in the queue like any other, and may time out there.
    if not waiting and (yield Run([RunRequest(None, [])], deadline, detached=detached)) == [TIMED_OUT]:
        return False
    while ready := [number for number in waiting if progress.is_ready(number)]:
        outcomes = yield Run([progress.request(number) for number in ready], deadline, detached=detached)
        if any(outcome is TIMED_OUT for outcome in outcomes):
            return False
        for number, outcome in zip(ready, outcomes, strict=True):
            progress.take(number, outcome)
        done = set(ready)
        waiting = [number for number in waiting if number not in done]
    return True


Answer = list[Buffer]  # the reply of one operation, in pieces


def _answers(client: Client, progress: Progress) -> Generator[Any, Any, list[Answer]]:
    """Encode the answers of all operations. Raise CommandError if they are too large together."""
    budget = reply_budget(client.engine.settings)

    def encode() -> list[Answer]:
        numbers = range(len(progress.dag.operations))
        return [_answer(progress, number, client.protocol, budget) for number in numbers]

    return (yield Encode(encode)) if _takes_long(progress) else encode()


def _takes_long(progress: Progress) -> bool:
    elements = 0
    for operation in progress.dag.operations:
        if isinstance(operation, GetTensor) and b"VALUES" in operation.form:
            value = progress.places[operation.place]
            elements += 0 if value is None else element_count(value.shape)
    return elements > MANY


def _answer(progress: Progress, number: int, protocol: int, budget: Budget) -> Answer:
    operation = progress.dag.operations[number]
    if isinstance(operation, GetTensor):
        return _tensor_answer(progress, operation, protocol, budget)
    if isinstance(operation, SetTensor) or number in progress.done:
        return [replies.OK]
    return [progress.failed.get(number, replies.NA)]


def _tensor_answer(progress: Progress, operation: GetTensor, protocol: int, budget: Budget) -> Answer:
    value = progress.places[operation.place]
    if value is None:
        return [replies.NA]
    if not isinstance(value, Tensor):
        if operation.form == _META:
            return [replies.array(meta_of_array(value))]
        # An output in the default format is encoded without making a Tensor of it first.
        if operation.form == META_AND_BLOB:
            budget.take(value.nbytes)
            pieces: Answer = []
            add_array(pieces, value)
            return pieces
    tensor = progress.tensor(operation.place)
    assert tensor is not None
    return tensor_reply(tensor, operation.form, protocol, budget)


def _persist(progress: Progress) -> Generator[Any, Any, list[Answer]]:
    """
    Store the tensors. If one of the keys holds something else, store nothing; the answer is that error.

    Where Redis refuses one itself, for want of memory or of a right to its key, those before it have been stored.
    """
    dag = progress.dag
    names = dag.persist or []
    heads = yield [(b"GETRANGE", name, b"0", b"7") for name in names]
    try:
        for head in heads:
            store.check_tensor_head(head)
        tensors = [(name, progress.tensor(dag.names[name])) for name in names]
        values = [(b"SET", name, stored(tensor)) for name, tensor in tensors if tensor is not None]
        refuse_error(*(yield values))
    except CommandError as error:
        return [[replies.error(error.wire)]]
    return []
