"""
The grammar of runs and calls: what follows the key in AI.MODELEXECUTE, AI.MODELRUN, AI.MODELSTREAM, AI.SCRIPTEXECUTE
and AI.SCRIPTRUN.

Arguments become a plain description; nothing is looked up. RedisAI checks the counts against the model while it reads
the arguments, and reports the first error that it meets. So an error found here is kept in the description (`error`)
until the model is known, and `check` raises the error that RedisAI would report.

Invariant: a description without an error is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from redisai_engine.commands.grammar.tensors import parse_tensor
from redisai_engine.commands.grammar.words import Words, integer, text
from redisai_engine.errors import CommandError
from redisai_engine.protocol import texts
from redisai_engine.protocol.tensor import Tensor

_INPUTS, _OUTPUTS, _KEYS, _ARGS, _TIMEOUT = b"INPUTS", b"OUTPUTS", b"KEYS", b"ARGS", b"TIMEOUT"
_WORDS_BEFORE_SCOPES = 3  # the command's name, the script and the function
_COUNTED = {_INPUTS: "inputs", _OUTPUTS: "outputs", _ARGS: "keys"}  # their names in RedisAI's error for a bad count


class ModelCall:
    """The inputs of a run and the keys for its outputs. A count is None if reading failed before it."""

    __slots__ = ("error", "input_count", "inputs", "output_count", "outputs", "timeout_ms")

    def __init__(self) -> None:
        self.inputs: list[bytes] = []
        self.outputs: list[bytes] = []
        self.timeout_ms: int | None = None
        self.input_count: int | None = None
        self.output_count: int | None = None
        self.error: CommandError | None = None

    def check(self, inputs: int, outputs: int) -> None:
        """Raise the error that RedisAI reports first for a model with this many inputs and outputs."""
        if self.input_count is not None and self.input_count != inputs:
            raise CommandError(texts.INPUTS_MISMATCH)
        if self.output_count is not None and self.output_count != outputs:
            raise CommandError(texts.OUTPUTS_MISMATCH)
        if self.error is not None:
            raise self.error


@dataclass(slots=True)
class FunctionCall:
    """
    The inputs of a call and the keys for its outputs.

    The function also receives `keys`, which it may access, and `arguments`.
    """

    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    timeout_ms: int | None = None
    keys: list[bytes] = field(default_factory=list)
    arguments: list[bytes] = field(default_factory=list)
    error: CommandError | None = None

    def check(self) -> None:
        """Raise the error found in the arguments, if there is one."""
        if self.error is not None:
            raise self.error


Call = TypeVar("Call", ModelCall, FunctionCall)


def _described(call: Call, read: Callable[[Words, Call], None], arguments: Sequence[bytes]) -> Call:
    try:
        read(Words(list(arguments)), call)
    except CommandError as error:
        call.error = error
    return call


# Models


def parse_modelexecute(arguments: Sequence[bytes]) -> ModelCall:
    """Read `INPUTS count key ... OUTPUTS count key ... [TIMEOUT ms]`. An error is kept in the result."""
    return _described(ModelCall(), _read_modelexecute, arguments)


def _read_modelexecute(words: Words, call: ModelCall) -> None:
    if not words.take_if(_INPUTS):
        raise CommandError(texts.INPUTS_MISSING)
    call.input_count = _count(words, texts.BAD_INPUT_COUNT, texts.INPUT_COUNT_ZERO)
    call.inputs = words.take_many(call.input_count)
    if len(call.inputs) < call.input_count:
        raise CommandError(texts.INPUT_KEYS_COUNT)
    # A count that is too large by one or two has swallowed the keyword OUTPUTS, which is then missing.
    if not words.take_if(_OUTPUTS):
        raise CommandError(texts.OUTPUTS_MISSING)
    call.output_count = _count(words, texts.BAD_OUTPUT_COUNT, texts.OUTPUT_COUNT_ZERO)
    call.outputs = words.take_many(call.output_count)
    if len(call.outputs) < call.output_count:
        raise CommandError(texts.OUTPUT_KEYS_COUNT)
    if words.take_if(_TIMEOUT):
        call.timeout_ms = parse_timeout(words)
    if words.rest:
        raise CommandError(texts.UNEXPECTED % text(words.rest[0]))


def _count(words: Words, bad: str, zero: str) -> int:
    count = integer(words.take() or b"")
    if count is None:
        raise CommandError(bad)
    if count <= 0:
        raise CommandError(zero)
    return count


def parse_timeout(words: Words) -> int:
    """Read the value of TIMEOUT, in milliseconds. Raise CommandError if it is missing or not a positive integer."""
    word = words.take()
    if word is None:
        raise CommandError(texts.TIMEOUT_MISSING)
    timeout_ms = integer(word)
    if timeout_ms is None or timeout_ms <= 0:
        raise CommandError(texts.BAD_TIMEOUT)
    return timeout_ms


def parse_modelrun(arguments: Sequence[bytes]) -> ModelCall:
    """Read the deprecated `[TIMEOUT ms] INPUTS key ... OUTPUTS key ...`. An error is kept in the result."""
    return _described(ModelCall(), _read_modelrun, arguments)


def _read_modelrun(words: Words, call: ModelCall) -> None:
    if words.take_if(_TIMEOUT):
        call.timeout_ms = parse_timeout(words)
    if not words.take_if(_INPUTS):
        raise CommandError(texts.INPUTS_MISSING)
    while words.rest and not words.take_if(_OUTPUTS):
        call.inputs.append(words.take() or b"")
    call.outputs = words.rest
    call.input_count, call.output_count = len(call.inputs), len(call.outputs)


def parse_modelstream(arguments: Sequence[bytes]) -> tuple[int | None, Tensor]:
    """Read `[TIMEOUT ms]` and a tensor. Raise CommandError."""
    words = Words(list(arguments))
    timeout_ms = parse_timeout(words) if words.take_if(_TIMEOUT) else None
    return timeout_ms, parse_tensor(words.rest or [b""]).tensor


# Scripts


def parse_scriptexecute(arguments: Sequence[bytes], *, in_dag: bool) -> FunctionCall:
    """Read the scopes: each at most once, in any order. Outside a DAG, KEYS or INPUTS must come first."""
    if not in_dag and (not arguments or arguments[0].upper() not in (_KEYS, _INPUTS)):
        return FunctionCall(error=CommandError(texts.SCRIPT_FIRST_SCOPE))
    return _described(FunctionCall(), _read_scopes, arguments)


def _read_scopes(words: Words, call: FunctionCall) -> None:
    scopes: dict[bytes, list[bytes]] = {}
    while words.rest:
        word = words.take() or b""
        scope = word.upper()
        if scope == _TIMEOUT:
            call.timeout_ms = _timeout_at_the_end(words)
            break
        if scope != _KEYS and scope not in _COUNTED:
            raise CommandError(texts.SCRIPT_UNEXPECTED % text(word))
        if scope in scopes:
            raise CommandError(texts.SCRIPT_SCOPE_TWICE % text(scope))
        scopes[scope] = _key_scope(words) if scope == _KEYS else _scope(words, scope)
    call.inputs, call.outputs = scopes.get(_INPUTS, []), scopes.get(_OUTPUTS, [])
    call.keys, call.arguments = scopes.get(_KEYS, []), scopes.get(_ARGS, [])


def _timeout_at_the_end(words: Words) -> int:
    if not words.rest:
        raise CommandError(texts.SCRIPT_NO_TIMEOUT)
    timeout_ms = parse_timeout(words)
    if words.rest:
        raise CommandError(texts.SCRIPT_BEHIND_TIMEOUT)
    return timeout_ms


def _scope(words: Words, scope: bytes) -> list[bytes]:
    """
    Read a count and that many words.

    A negative count means none, as in RedisAI, unless it points in front of the whole command.
    """
    word = words.take()
    if word is None:
        raise CommandError(texts.SCRIPT_SCOPE_EMPTY)
    count = integer(word)
    if count is None:
        raise CommandError(texts.SCRIPT_BAD_COUNT % _COUNTED[scope])
    if count > len(words.rest) or count < -(_WORDS_BEFORE_SCOPES + words.position):
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


def parse_scriptrun(arguments: Sequence[bytes]) -> FunctionCall:
    """Read `[TIMEOUT ms] INPUTS key ... OUTPUTS key ...`. A `$`, which marks a list among the inputs, has no effect."""
    return _described(FunctionCall(), _read_sections, arguments)


def _read_sections(words: Words, call: FunctionCall) -> None:
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
