"""
AI.DAGEXECUTE, AI.DAGEXECUTE_RO and the deprecated AI.DAGRUN, AI.DAGRUN_RO.

Theory of operation. Parsing turns every name into the number of a place: each LOAD, AI.TENSORSET and output opens a
new place and the name means that one from then on. So an operation depends exactly on the places that it reads, a
name may be used again, and whatever is ready can run at the same time. An operation whose places were never filled,
because one before it failed, answers NA. Names live in the DAG alone; only LOAD and PERSIST touch keys.

The order of the checks is RedisAI's: keys of LOAD are read while the scopes are parsed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redisai_engine.commands.ai.model_options import Words, text
from redisai_engine.commands.ai.prepared import ROUTE_RIGHT
from redisai_engine.commands.ai.run import (
    RESOLVING,
    Execution,
    parse_modelexecute,
    parse_modelrun,
    parse_timeout,
    resolve_model,
)
from redisai_engine.commands.ai.script_run import parse_scriptexecute, parse_scriptrun, resolve_script
from redisai_engine.commands.ai.tensor import parse_format, parse_tensor, tensor_of, tensor_reply
from redisai_engine.commands.getkeys import dag_keys
from redisai_engine.commands.numbers import integer
from redisai_engine.commands.table import (
    READ,
    WRITE,
    Context,
    InTransaction,
    Keys,
    Plan,
    Run,
    RunRequest,
    command,
    refuse_error,
)
from redisai_engine.errors import CommandError, EngineError
from redisai_engine.execution.job import TIMED_OUT, RunnableModel
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.protocol.tensor import Tensor
from redisai_engine.redis import store

_SEPARATOR = b"|>"
_READING = (*RESOLVING, "GET")
_WRITING = (*_READING, "GETRANGE", "SET", "SETRANGE")
_KEYS = Keys(3, 3, 1, find=dag_keys)
_WRITE_RIGHT = b"w"


@dataclass(slots=True)
class Get:
    """AI.TENSORGET of a place."""

    place: int
    form: frozenset[bytes]


@dataclass(slots=True)
class Execute:
    """A run of a model, or a call of a script: places read, places filled."""

    model: RunnableModel
    inputs: list[int]
    outputs: list[int]


@dataclass(slots=True)
class Dag:
    """A DAG while it is parsed and run. `places` holds the tensors, None where there is none (yet)."""

    read_only: bool
    deprecated: bool
    deadline: float | None = None
    routing: bytes | None = None
    load: list[bytes] = field(default_factory=list)
    persist: list[bytes] | None = None
    calls_scripts: bool = False
    names: dict[bytes, int] = field(default_factory=dict)
    places: list[Tensor | None] = field(default_factory=list)
    operations: list[Get | Execute | None] = field(default_factory=list)  # None: AI.TENSORSET, done while parsing

    def open(self, name: bytes, tensor: Tensor | None = None) -> int:
        """Makes `name` mean a new place."""
        self.names[name] = len(self.places)
        self.places.append(tensor)
        return self.names[name]

    @property
    def needs_redis(self) -> bool:
        """Tells whether Redis is needed still while the operations run, or after."""
        return bool(self.persist) or self.calls_scripts

    def find(self, name: bytes) -> int:
        """Gives the place that `name` means now. Raises CommandError for a name that is not known."""
        place = self.names.get(name)
        if place is None:
            raise CommandError(texts.DAG_INPUT_UNKNOWN)
        return place


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
def dagexecute(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AI.DAGEXECUTE [LOAD count key ...] [PERSIST count key ...] [ROUTING key] [TIMEOUT ms] |> command ..."""
    return _run_dag(context, arguments, Dag(read_only=False, deprecated=False))


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
def dagexecute_ro(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AI.DAGEXECUTE_RO [LOAD count key ...] [ROUTING key] [TIMEOUT ms] |> command ..."""
    return _run_dag(context, arguments, Dag(read_only=True, deprecated=False))


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
def dagrun(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AI.DAGRUN [LOAD count key ...] [PERSIST count key ...] [TIMEOUT ms] |> command ..."""
    return _run_dag(context, arguments, Dag(read_only=False, deprecated=True))


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
def dagrun_ro(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AI.DAGRUN_RO [LOAD count key ...] [TIMEOUT ms] |> command ..."""
    return _run_dag(context, arguments, Dag(read_only=True, deprecated=True))


def _run_dag(context: Context, arguments: Sequence[bytes], dag: Dag) -> Plan:
    words = Words(list(arguments), position=1)
    yield from _scopes(context, words, dag)
    yield from _check_rights(context, dag)
    for operation in _split(words):
        dag.operations.append((yield from _operation(context, operation, dag)))
    for name in dag.persist or ():
        if name not in dag.names:
            raise CommandError(texts.DAG_PERSIST_UNKNOWN)
    answers = yield from _run(dag, context.protocol)
    if answers is None:
        return replies.TIMEDOUT
    if dag.persist and not any(answer.startswith((b"-", b"+NA")) for answer in answers):
        answers += yield from _persist(dag)
    return replies.array(answers)


# Parsing


def _scopes(context: Context, words: Words, dag: Dag) -> Generator[Any, Any, None]:
    """Reads LOAD, PERSIST, ROUTING and TIMEOUT up to the first separator; each at most once, in any order."""
    timeout_seen = False
    while words.rest and not (words.rest[0] == _SEPARATOR and len(words.rest) > 1):
        if not dag.load and words.take_if(b"LOAD"):
            yield from _load(words, dag)
        elif dag.persist is None and words.take_if(b"PERSIST"):
            dag.persist = _persist_names(words, dag)
        elif dag.routing is None and words.take_if(b"ROUTING"):
            dag.routing = words.take()
            if dag.routing is None:
                raise CommandError(texts.DAG_ROUTING_MISSING)
        elif not timeout_seen and words.take_if(b"TIMEOUT"):
            timeout_seen = True
            dag.deadline = context.engine.deadline(_timeout(words))
        else:
            raise CommandError(texts.DAG_UNEXPECTED % text(words.rest[0]))
    if not words.rest:
        raise CommandError(texts.DAG_EMPTY)
    if not (dag.deprecated or dag.load or dag.persist or dag.routing is not None):
        raise CommandError(texts.DAG_NO_SCOPE)


def _timeout(words: Words) -> int | None:
    """Here, unlike elsewhere, RedisAI takes zero and negative numbers, which mean none."""
    if not words.rest:
        raise CommandError(texts.TIMEOUT_MISSING)
    value = integer(words.rest[0])
    if value is not None and value <= 0:
        words.take()
        return None
    return parse_timeout(words)


def _count(words: Words, scope: str) -> int:
    count = integer(words.take() or b"")
    if count is None or count <= 0:
        raise CommandError(texts.DAG_BAD_COUNT % scope)
    return count


def _load(words: Words, dag: Dag) -> Generator[Any, Any, None]:
    count = _count(words, "LOAD")
    dag.load = words.take_many(count)
    if len(dag.load) < count:
        raise CommandError(texts.DAG_LOAD_COUNT)
    values = yield [(b"GET", key) for key in dag.load]
    for key, value in zip(dag.load, values, strict=True):
        dag.open(key, tensor_of(value))


def _persist_names(words: Words, dag: Dag) -> list[bytes]:
    if dag.read_only:
        raise CommandError(texts.DAG_PERSIST_READ_ONLY)
    count = _count(words, "PERSIST")
    names = words.take_many(count)
    if len(set(names)) < len(names):
        raise CommandError(texts.DAG_PERSIST_TWICE)
    if len(names) < count:
        raise CommandError(texts.DAG_PERSIST_COUNT)
    return names


def _check_rights(context: Context, dag: Dag) -> Generator[Any, Any, None]:
    """
    The commands sent here change nothing, but Redis refuses them where it would refuse the DAG.

    SETRANGE with an empty value needs the right to write and memory to write to; that the key holds another type
    than a string, a model for instance, doesn't matter.
    """
    if not (dag.load or dag.persist or dag.routing is not None):  # DAGRUN may name no key; Redis must let it in
        refuse_error(*(yield [(b"PING",)]))
        return
    if dag.read_only:
        if dag.routing is None or context.rights.has(dag.routing, ROUTE_RIGHT):
            return
        refuse_error(*(yield [(b"EXISTS", dag.routing)]))
        context.rights.grant(dag.routing, ROUTE_RIGHT)
        return
    keys = {*dag.load, *(dag.persist or ()), *(() if dag.routing is None else (dag.routing,))}
    if keys and not all(context.rights.has(key, _WRITE_RIGHT) for key in keys):
        answers = yield [(b"SETRANGE", key, b"0", b"") for key in keys]
        refuse_error(*(answer for answer in answers if not _is_wrong_type(answer)))
        for key in keys:
            context.rights.grant(key, _WRITE_RIGHT)


def _is_wrong_type(answer: object) -> bool:
    return isinstance(answer, ReplyError) and answer.text.startswith("WRONGTYPE")


def _split(words: Words) -> list[list[bytes]]:
    """Cuts the operations at the separators. Raises CommandError for a separator with nothing behind it."""
    if words.rest[-1] == _SEPARATOR:
        raise CommandError(texts.DAG_UNEXPECTED % text(_SEPARATOR))
    operations: list[list[bytes]] = []
    for word in words.rest:
        if word == _SEPARATOR:
            operations.append([])
        else:
            operations[-1].append(word)
    return operations


def _operation(context: Context, words: list[bytes], dag: Dag) -> Generator[Any, Any, Get | Execute | None]:
    name = words[0].upper() if words else b""
    if name == b"AI.TENSORSET":
        _check_arity(words, least=4, most=None)
        dag.open(words[1], parse_tensor(words[2:]))
        return None
    if name == b"AI.TENSORGET":
        _check_arity(words, least=2, most=4)
        return Get(dag.find(words[1]), parse_format(words[2:]))
    if name == (b"AI.MODELRUN" if dag.deprecated else b"AI.MODELEXECUTE"):
        return (yield from _model_operation(context, words, dag))
    if name == (b"AI.SCRIPTRUN" if dag.deprecated else b"AI.SCRIPTEXECUTE"):
        return (yield from _script_operation(context, words, dag))
    if name in (b"AI.MODELEXECUTE", b"AI.SCRIPTEXECUTE") and dag.deprecated:
        raise CommandError(texts.DAG_NEW_OP % text(name))
    if name in (b"AI.MODELRUN", b"AI.SCRIPTRUN"):
        raise CommandError(texts.DAG_DEPRECATED_OP % text(name))
    raise CommandError(texts.DAG_UNSUPPORTED)


def _check_arity(words: list[bytes], *, least: int, most: int | None) -> None:
    if len(words) < least or (most is not None and len(words) > most):
        raise CommandError(texts.ARITY_IN_DAG % text(words[0].upper()))


def _model_operation(context: Context, words: list[bytes], dag: Dag) -> Generator[Any, Any, Execute]:
    if len(words) < (6 if dag.deprecated else 8):
        raise CommandError(texts.ARITY % text(words[0].upper()))
    model = yield from resolve_model(context, words[1])
    execution: Execution = (parse_modelrun if dag.deprecated else parse_modelexecute)(words[2:], model)
    return _execute(dag, model, execution)


def _script_operation(context: Context, words: list[bytes], dag: Dag) -> Generator[Any, Any, Execute]:
    name = text(words[0].upper())
    if dag.read_only:
        raise CommandError(texts.DAG_SCRIPT_READ_ONLY % name)
    if len(words) < 3:
        raise CommandError(texts.ARITY % name)
    script = yield from resolve_script(context, words[1])
    call = parse_scriptrun(words[3:]) if dag.deprecated else parse_scriptexecute(words[3:], in_dag=True)
    dag.calls_scripts = True
    return _execute(dag, script.runnable(context, words[2], call), call)


def _execute(dag: Dag, model: RunnableModel, execution: Execution) -> Execute:
    if execution.timeout_ms is not None:
        raise CommandError(texts.DAG_TIMEOUT_IN_OP)
    inputs = [dag.find(name) for name in execution.inputs]
    return Execute(model, inputs, [dag.open(name) for name in execution.outputs])


# Running


def _run(dag: Dag, protocol: int) -> Generator[Any, Any, list[bytes] | None]:
    """Gives each operation's answer, or None when the time ran out."""
    failed: dict[int, bytes] = {}
    done: set[int] = set()
    waiting = [i for i, operation in enumerate(dag.operations) if isinstance(operation, Execute)]
    if not waiting and (yield Run([RunRequest(None, [])], dag.deadline, detached=not dag.needs_redis)) == [TIMED_OUT]:
        return None
    while ready := [i for i in waiting if _is_ready(dag, i)]:
        outcomes = yield Run([_request(dag, i) for i in ready], dag.deadline, detached=not dag.needs_redis)
        for i, outcome in zip(ready, outcomes, strict=True):
            if outcome is TIMED_OUT:
                return None
            if isinstance(outcome, EngineError):
                failed[i] = replies.error(outcome.wire)
            else:
                _fill(dag, i, outcome)
                done.add(i)
        waiting = [i for i in waiting if i not in ready]
    return [_answer(dag, i, failed, done, protocol) for i in range(len(dag.operations))]


def _is_ready(dag: Dag, i: int) -> bool:
    operation = dag.operations[i]
    assert isinstance(operation, Execute)
    return all(dag.places[place] is not None for place in operation.inputs)


def _request(dag: Dag, i: int) -> RunRequest:
    operation = dag.operations[i]
    assert isinstance(operation, Execute)
    tensors = [dag.places[place] for place in operation.inputs]
    return RunRequest(operation.model, [tensor.array() for tensor in tensors if tensor is not None])


def _fill(dag: Dag, i: int, arrays: Sequence[np.ndarray[Any, Any] | None]) -> None:
    operation = dag.operations[i]
    assert isinstance(operation, Execute)
    for place, array in zip(operation.outputs, arrays, strict=True):
        dag.places[place] = None if array is None else Tensor.from_array(array)


def _answer(dag: Dag, i: int, failed: dict[int, bytes], done: set[int], protocol: int) -> bytes:
    operation = dag.operations[i]
    if isinstance(operation, Get):
        tensor = dag.places[operation.place]
        return replies.NA if tensor is None else tensor_reply(tensor, operation.form, protocol)
    if operation is None or i in done:
        return replies.OK
    return failed.get(i, replies.NA)


def _persist(dag: Dag) -> Generator[Any, Any, list[bytes]]:
    """Stores the tensors; where a key can't take one nothing is stored and the answer is that error."""
    names = dag.persist or []
    heads = yield [(b"GETRANGE", name, b"0", b"7") for name in names]
    try:
        for head in heads:
            store.check_tensor_head(head)
        tensors = [(name, dag.places[dag.names[name]]) for name in names]
        values = [(b"SET", name, store.tensor_value(tensor)) for name, tensor in tensors if tensor is not None]
        refuse_error(*(yield values))
    except CommandError as error:
        return [replies.error(error.wire)]
    return []
