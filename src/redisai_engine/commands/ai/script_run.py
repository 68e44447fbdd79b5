"""
AI.SCRIPTEXECUTE and the deprecated AI.SCRIPTRUN, and what calling scripts shares with DAGs.

A call is run as a model is run: it waits in the same queue and has the same outcomes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from redisai_engine.backends.torch_script import ScriptCall, TorchScript
from redisai_engine.commands.ai.model_options import Words, text
from redisai_engine.commands.ai.run import Execution, execute, parse_timeout
from redisai_engine.commands.ai.script import compiled, read_script
from redisai_engine.commands.ai.script_calls import SessionCaller
from redisai_engine.commands.getkeys import scriptexecute_keys, scriptrun_keys
from redisai_engine.commands.numbers import integer
from redisai_engine.commands.table import WRITE, Context, InTransaction, Keys, Plan, command
from redisai_engine.errors import CommandError
from redisai_engine.execution.job import RunnableModel
from redisai_engine.protocol import texts

_CALLING = ("EXISTS", "HMGET", "GET", "GETRANGE", "SET")  # and what the script itself asks Redis for

_INPUTS, _OUTPUTS, _KEYS, _ARGS, _TIMEOUT = b"INPUTS", b"OUTPUTS", b"KEYS", b"ARGS", b"TIMEOUT"
_COUNTED = {_INPUTS: "inputs", _OUTPUTS: "outputs", _ARGS: "keys"}  # RedisAI's name in the error of a bad count


@dataclass(slots=True)
class Call(Execution):
    """What a client says of a call. `keys` and `arguments` go to the function, which may touch those keys."""

    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    arguments: list[bytes] = field(default_factory=list)


@command(
    "AI.SCRIPTEXECUTE",
    arity=(3, None),
    arity_text=texts.ARITY % "AI.SCRIPTEXECUTE",
    flags=WRITE,
    keys=Keys(5, 5, 1, find=scriptexecute_keys),
    in_transaction=InTransaction.REFUSE,
    summary="Calls a script's function",
    made_of=_CALLING,
)
def scriptexecute(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AI.SCRIPTEXECUTE key function [KEYS count key ...] [INPUTS count key ...] [ARGS count argument ...]
    [OUTPUTS count key ...] [TIMEOUT ms]"""
    script = yield from resolve_script(context, arguments[1])
    call = parse_scriptexecute(arguments[3:], in_dag=False)
    return (yield from execute(context, script.runnable(context, arguments[2], call), call))


@command(
    "AI.SCRIPTRUN",
    arity=(3, None),
    arity_text=texts.ARITY % "AI.SCRIPTRUN",
    flags=WRITE,
    keys=Keys(4, 4, 1, find=scriptrun_keys),
    in_transaction=InTransaction.REFUSE,
    summary="Deprecated form of AI.SCRIPTEXECUTE",
    made_of=_CALLING,
)
def scriptrun(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AI.SCRIPTRUN key function [TIMEOUT ms] INPUTS key ... [$ key ...] OUTPUTS key ..."""
    script = yield from resolve_script(context, arguments[1])
    call = parse_scriptrun(arguments[3:])
    return (yield from execute(context, script.runnable(context, arguments[2], call), call))


@dataclass(frozen=True, slots=True)
class Resolved:
    """A script as the store holds it now."""

    id: bytes
    device: str
    script: TorchScript

    def runnable(self, context: Context, function: bytes, call: Call) -> RunnableModel:
        """Gives what runs one call, by the rights of the client that `context` is of."""
        loaded = ScriptCall(
            self.script, text(function), call.keys, call.arguments, len(call.outputs), SessionCaller(context)
        )
        statistics = context.engine.models.statistics(self.id)
        return RunnableModel(loaded, backend_name="TORCH", device=self.device, statistics=statistics)


def resolve_script(context: Context, key: bytes) -> Generator[Any, Any, Resolved]:
    """
    Finds the script that the key holds now, compiling it where this process hasn't yet.

    Raises CommandError where there is none, WrongType for another kind of key, UpstreamError without the right to read.
    """
    meta, _ = yield from read_script(key, with_source=False)
    script = context.engine.scripts.by_id(meta.id.encode())
    if script is None:
        meta, source = yield from read_script(key, with_source=True)
        script = yield from compiled(context, meta, text(source))
    return Resolved(meta.id.encode(), meta.device, script)


# Arguments


def parse_scriptexecute(arguments: Sequence[bytes], *, in_dag: bool) -> Call:
    """Reads the scopes, each at most once, in any order; outside of a DAG one of keys and inputs comes first."""
    if not in_dag and (not arguments or arguments[0].upper() not in (_KEYS, _INPUTS)):
        raise CommandError(texts.SCRIPT_FIRST_SCOPE)
    words = Words(list(arguments))
    scopes: dict[bytes, list[bytes]] = {}
    while words.rest:
        word = words.take() or b""
        scope = word.upper()
        if scope == _TIMEOUT:
            return _call(scopes, _timeout_at_the_end(words))
        if scope != _KEYS and scope not in _COUNTED:
            raise CommandError(texts.SCRIPT_UNEXPECTED % text(word))
        if scope in scopes:
            raise CommandError(texts.SCRIPT_SCOPE_TWICE % text(scope))
        scopes[scope] = _key_scope(words) if scope == _KEYS else _scope(words, scope)
    return _call(scopes, None)


def _call(scopes: dict[bytes, list[bytes]], timeout_ms: int | None) -> Call:
    inputs, outputs, keys, arguments = (scopes.get(scope, []) for scope in (_INPUTS, _OUTPUTS, _KEYS, _ARGS))
    return Call(inputs, outputs, timeout_ms, keys, arguments)


def _timeout_at_the_end(words: Words) -> int:
    if not words.rest:
        raise CommandError(texts.SCRIPT_NO_TIMEOUT)
    timeout_ms = parse_timeout(words)
    if words.rest:
        raise CommandError(texts.SCRIPT_BEHIND_TIMEOUT)
    return timeout_ms


def _scope(words: Words, scope: bytes) -> list[bytes]:
    """Reads a count and so many words. A negative count is none, as for RedisAI."""
    word = words.take()
    if word is None:
        raise CommandError(texts.SCRIPT_SCOPE_EMPTY)
    count = integer(word)
    if count is None:
        raise CommandError(texts.SCRIPT_BAD_COUNT % _COUNTED[scope])
    if count > len(words.rest):
        raise CommandError(texts.SCRIPT_TOO_FEW % text(scope).lower())
    return words.take_many(max(count, 0))


def _key_scope(words: Words) -> list[bytes]:
    if len(words.rest) < 2:
        raise CommandError(texts.SCRIPT_NO_KEYS)
    count = integer(words.take() or b"")
    if count is None or count <= 0:
        raise CommandError(texts.SCRIPT_BAD_KEY_COUNT)
    if count > len(words.rest):
        raise CommandError(texts.SCRIPT_TOO_FEW_KEYS)
    return words.take_many(count)


def parse_scriptrun(arguments: Sequence[bytes]) -> Call:
    """Reads `[TIMEOUT ms] INPUTS key ... OUTPUTS key ...`; a `$` before the inputs that make a list means nothing."""
    words = Words(list(arguments))
    call = Call()
    section: list[bytes] | None = None
    outputs_seen = list_seen = False
    while words.rest:
        word = words.take() or b""
        keyword = word.upper()
        if keyword == _TIMEOUT:
            if call.timeout_ms is not None:
                raise CommandError(texts.SCRIPTRUN_TWICE % "TIMEOUT section")
            call.timeout_ms = parse_timeout(words)
        elif keyword == _INPUTS:
            if outputs_seen or section is call.inputs:
                raise CommandError(texts.SCRIPTRUN_TWICE % f"INPUTS {'section' if outputs_seen else 'keyword'}")
            section = call.inputs
        elif keyword == _OUTPUTS:
            if section is call.outputs:
                raise CommandError(texts.SCRIPTRUN_TWICE % "OUTPUTS keyword")
            section, outputs_seen = call.outputs, True
        elif word == b"$":
            if section is not call.inputs:
                raise CommandError(texts.SCRIPTRUN_LIST_OUTSIDE)
            if list_seen:
                raise CommandError(texts.SCRIPTRUN_LIST_TWICE)
            list_seen = True
        elif section is None:
            raise CommandError(texts.SCRIPTRUN_UNEXPECTED)
        else:
            section.append(word)
    return call
