"""
The grammar of DAGs: the arguments of AI.DAGEXECUTE and its variants become a plain description. Nothing is looked up.

Theory of operation. Every name becomes the number of a place. Each key of LOAD, each AI.TENSORSET and each output opens
a new place, and from then on the name stands for that place. So an operation depends on exactly the places that it
reads, and a name may be reused.

RedisAI looks keys up while it reads the arguments, and reports the first error that it meets. So reading stops at the
first bad argument, and the error is kept where it was found: in `scopes_error`, in the call of an operation whose model
is looked up first, or in `operations_error`. The code that runs the DAG raises it at the point where RedisAI would.
Names come last: only once all operations are read does RedisAI check that each name is known.

Invariant: the description of a DAG without any of these errors is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from redisai_engine.commands.grammar.calls import (
    FunctionCall,
    ModelCall,
    parse_modelexecute,
    parse_modelrun,
    parse_scriptexecute,
    parse_scriptrun,
    parse_timeout,
)
from redisai_engine.commands.grammar.tensors import TensorWords, parse_format, parse_tensor
from redisai_engine.commands.grammar.words import Words, integer, text
from redisai_engine.errors import CommandError
from redisai_engine.protocol import texts

SEPARATOR = b"|>"


@dataclass(slots=True)
class SetTensor:
    """AI.TENSORSET: fills a place. `blob_at` is the position of the blob among the DAG's arguments, if there is one."""

    name: bytes
    words: TensorWords
    blob_at: int | None
    place: int = -1


@dataclass(slots=True)
class GetTensor:
    """AI.TENSORGET of one place."""

    name: bytes
    form: frozenset[bytes]
    place: int = -1


@dataclass(slots=True)
class RunModel:
    """A run of the model under a key: it reads the places `inputs` and fills the places `outputs`."""

    key: bytes
    call: ModelCall
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)


@dataclass(slots=True)
class CallFunction:
    """A call of a function of the script under a key: it reads the places `inputs` and fills the places `outputs`."""

    key: bytes
    function: bytes
    call: FunctionCall
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)


Operation = SetTensor | GetTensor | RunModel | CallFunction


@dataclass(slots=True)
class Dag:
    """A DAG as its arguments describe it. The keys of `load` fill the first places."""

    read_only: bool
    deprecated: bool
    load: list[bytes] = field(default_factory=list)
    persist: list[bytes] | None = None
    routing: bytes | None = None
    timeout_ms: int | None = None
    scopes_error: CommandError | None = None
    operations: list[Operation] = field(default_factory=list)
    operations_error: CommandError | None = None
    names: dict[bytes, int] = field(default_factory=dict)
    places: int = 0

    def open(self, name: bytes) -> int:
        """Open a new place for `name` and return its number."""
        self.names[name] = self.places
        self.places += 1
        return self.names[name]

    def find(self, name: bytes) -> int:
        """Return the place that `name` stands for now. Raise CommandError for an unknown name."""
        place = self.names.get(name)
        if place is None:
            raise CommandError(texts.DAG_INPUT_UNKNOWN)
        return place

    @property
    def needs_redis(self) -> bool:
        """Whether Redis is needed while the operations run or afterwards."""
        return bool(self.persist) or any(isinstance(operation, CallFunction) for operation in self.operations)


def parse_dag(arguments: Sequence[bytes], *, read_only: bool, deprecated: bool) -> Dag:
    """Describe a DAG, up to the first error in its arguments."""
    dag = Dag(read_only, deprecated)
    words = Words(list(arguments), position=1)
    try:
        _read_scopes(words, dag)
    except CommandError as error:
        dag.scopes_error = error
    # LOAD's keys have places even if another scope is wrong, because RedisAI looks them up first.
    for key in dag.load:
        dag.open(key)
    if dag.scopes_error is None:
        try:
            if _read_operations(words, dag):
                _connect(dag)
                _check_persist(dag)
        except CommandError as error:
            dag.operations_error = error
    return dag


# Scopes


def _read_scopes(words: Words, dag: Dag) -> None:
    """Read LOAD, PERSIST, ROUTING and TIMEOUT up to the first separator: each at most once, in any order."""
    timeout_seen = False
    # A separator at the very end starts no operation. RedisAI reports it as an unexpected argument.
    while words.rest and not (words.rest[0] == SEPARATOR and len(words.rest) > 1):
        if not dag.load and words.take_if(b"LOAD"):
            _load(words, dag)
        elif dag.persist is None and words.take_if(b"PERSIST"):
            dag.persist = _persist(words, dag)
        elif dag.routing is None and words.take_if(b"ROUTING"):
            dag.routing = words.take()
            if dag.routing is None:
                raise CommandError(texts.DAG_ROUTING_MISSING)
        elif not timeout_seen and words.take_if(b"TIMEOUT"):
            timeout_seen = True
            dag.timeout_ms = _timeout(words)
        else:
            raise CommandError(texts.DAG_UNEXPECTED % text(words.rest[0]))
    if not words.rest:
        raise CommandError(texts.DAG_EMPTY)
    if words.rest[-1] == SEPARATOR:
        raise CommandError(texts.DAG_UNEXPECTED % text(SEPARATOR))
    if not (dag.deprecated or dag.load or dag.persist or dag.routing is not None):
        raise CommandError(texts.DAG_NO_SCOPE)


def _timeout(words: Words) -> int | None:
    """Read TIMEOUT's value. Here, unlike elsewhere, RedisAI accepts zero and negative numbers; they mean no timeout."""
    if not words.rest:
        raise CommandError(texts.TIMEOUT_MISSING)
    value = integer(words.rest[0])
    if value is not None and value <= 0:
        words.take()
        return None
    return parse_timeout(words)


def _count(words: Words, scope: str) -> int:
    if len(words.rest) < 2:
        raise CommandError(texts.DAG_COUNT_MISSING % scope)
    count = integer(words.take() or b"")
    if count is None or count <= 0:
        raise CommandError(texts.DAG_BAD_COUNT % scope)
    return count


def _load(words: Words, dag: Dag) -> None:
    """Read the keys of LOAD. If there are too few, RedisAI has looked up those that are there."""
    count = _count(words, "LOAD")
    dag.load = words.take_many(count)
    if len(dag.load) < count:
        raise CommandError(texts.DAG_LOAD_COUNT)


def _persist(words: Words, dag: Dag) -> list[bytes]:
    if dag.read_only:
        raise CommandError(texts.DAG_PERSIST_READ_ONLY)
    count = _count(words, "PERSIST")
    names = words.take_many(count)
    if len(set(names)) < len(names):
        raise CommandError(texts.DAG_PERSIST_TWICE)
    if len(names) < count:
        raise CommandError(texts.DAG_PERSIST_COUNT)
    return names


# Names


def _connect(dag: Dag) -> None:
    """Give every name its place. Raise CommandError for a name that nothing before it has filled."""
    for operation in dag.operations:
        if isinstance(operation, SetTensor):
            operation.place = dag.open(operation.name)
        elif isinstance(operation, GetTensor):
            operation.place = dag.find(operation.name)
        else:
            operation.inputs = [dag.find(name) for name in operation.call.inputs]
            operation.outputs = [dag.open(name) for name in operation.call.outputs]


def _check_persist(dag: Dag) -> None:
    for name in dag.persist or ():
        if name not in dag.names:
            raise CommandError(texts.DAG_PERSIST_UNKNOWN)


# Operations


def _read_operations(words: Words, dag: Dag) -> bool:
    """
    Read the operations up to the first bad one. Return whether all of them can be read.

    RedisAI looks up an operation's model or script, and reports the error in its call, before it reads on. Raise
    CommandError for an operation that can't even be described.
    """
    for start, operation in _split(words):
        described = _OPERATIONS[_name(operation, dag)](operation, dag, start)
        dag.operations.append(described)
        if isinstance(described, RunModel | CallFunction) and described.call.error is not None:
            return False
    return True


def _split(words: Words) -> list[tuple[int, list[bytes]]]:
    """Cut at the separators, the first of which comes next. Something follows the last one."""
    rest = words.rest
    edges = [i for i, word in enumerate(rest) if word == SEPARATOR]
    ends = [*edges[1:], len(rest)]
    return [(words.position + low + 1, rest[low + 1 : high]) for low, high in zip(edges, ends, strict=True)]


def _name(words: list[bytes], dag: Dag) -> bytes:
    """Return the operation's name. Raise CommandError for one that this kind of DAG doesn't allow."""
    name = words[0].upper() if words else b""
    if name in (b"AI.MODELEXECUTE", b"AI.SCRIPTEXECUTE") and dag.deprecated:
        raise CommandError(texts.DAG_NEW_OP % text(name))
    if name in (b"AI.MODELRUN", b"AI.SCRIPTRUN") and not dag.deprecated:
        raise CommandError(texts.DAG_DEPRECATED_OP % text(name))
    if name not in _OPERATIONS:
        raise CommandError(texts.DAG_UNSUPPORTED)
    return name


def _set_tensor(words: list[bytes], dag: Dag, start: int) -> Operation:
    _check_arity(words, least=4, most=None)
    tensor = parse_tensor(words[2:])
    # `start` is the position of the operation's name; name and key come before the tensor's own words.
    return SetTensor(words[1], tensor, None if tensor.blob_at is None else start + 2 + tensor.blob_at)


def _get_tensor(words: list[bytes], dag: Dag, start: int) -> Operation:
    _check_arity(words, least=2, most=4)
    return GetTensor(words[1], parse_format(words[2:]))


def _check_arity(words: list[bytes], *, least: int, most: int | None) -> None:
    if len(words) < least or (most is not None and len(words) > most):
        raise CommandError(texts.ARITY_IN_DAG % text(words[0].upper()))


def _run_model(words: list[bytes], dag: Dag, start: int) -> Operation:
    if len(words) < (6 if dag.deprecated else 8):
        raise CommandError(texts.ARITY % text(words[0].upper()))
    call = (parse_modelrun if dag.deprecated else parse_modelexecute)(words[2:])
    _refuse_timeout(call)
    return RunModel(words[1], call)


def _call_function(words: list[bytes], dag: Dag, start: int) -> Operation:
    name = text(words[0].upper())
    if dag.read_only and not dag.deprecated:  # AI.DAGRUN_RO takes AI.SCRIPTRUN
        raise CommandError(texts.DAG_SCRIPT_READ_ONLY % name)
    if len(words) < 3:
        raise CommandError(texts.ARITY % name)
    call = parse_scriptrun(words[3:]) if dag.deprecated else parse_scriptexecute(words[3:], in_dag=True)
    _refuse_timeout(call)
    return CallFunction(words[1], words[2], call)


def _refuse_timeout(call: ModelCall | FunctionCall) -> None:
    if call.error is None and call.timeout_ms is not None:
        call.error = CommandError(texts.DAG_TIMEOUT_IN_OP)


_OPERATIONS = {
    b"AI.TENSORSET": _set_tensor,
    b"AI.TENSORGET": _get_tensor,
    b"AI.MODELEXECUTE": _run_model,
    b"AI.MODELRUN": _run_model,
    b"AI.SCRIPTEXECUTE": _call_function,
    b"AI.SCRIPTRUN": _call_function,
}
