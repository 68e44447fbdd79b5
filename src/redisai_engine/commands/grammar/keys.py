"""
Which keys a request names, for the commands whose keys stand nowhere fixed: what COMMAND GETKEYS answers.

RedisAI reads keys off before it looks at anything else, so a request may be wrong here and still have keys; where a
count is wrong, the keys found up to there are all. These functions keep that, and what RedisAI leaves out by mistake.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.commands.grammar.words import integer

_SCRIPT_LISTS = (b"KEYS", b"INPUTS", b"LIST_INPUT", b"OUTPUTS")
_DAG_LISTS = (b"LOAD", b"PERSIST")
_DAG_KEYS = (b"ROUTING", b"AI.MODELEXECUTE", b"AI.SCRIPTEXECUTE")  # one key follows


def modelexecute_keys(arguments: Sequence[bytes]) -> list[bytes]:
    """The model, and if both counts are right the inputs and outputs."""
    if len(arguments) < 4:
        return []
    model = [arguments[1]]
    inputs = _counted(arguments, 3)
    if inputs is None:
        return model
    outputs = _counted(arguments, 5 + len(inputs))
    return model if outputs is None else model + inputs + outputs


def modelrun_keys(arguments: Sequence[bytes]) -> list[bytes]:
    """The model, inputs and outputs of the deprecated form."""
    return _run_keys(arguments, 2)


def scriptrun_keys(arguments: Sequence[bytes]) -> list[bytes]:
    """The script, inputs and outputs of the deprecated form."""
    return _run_keys(arguments, 3)


def _run_keys(arguments: Sequence[bytes], position: int) -> list[bytes]:
    """All words but the keywords; `position` is where INPUTS or TIMEOUT stands."""
    if len(arguments) > position and arguments[position].upper() == b"TIMEOUT":
        position += 2
    words = arguments[position + 1 :]
    return [*arguments[1:2], *(word for word in words if word.upper() != b"OUTPUTS")]


def scriptexecute_keys(arguments: Sequence[bytes]) -> list[bytes]:
    """The script and its lists up to ARGS; a list at the very end doesn't count."""
    keys = list(arguments[1:2])
    position = 3
    while position < len(arguments) and arguments[position].upper() in _SCRIPT_LISTS:
        counted = _counted(arguments, position + 1)
        if counted is None or position + 2 + len(counted) >= len(arguments):
            break
        keys += counted
        position += 2 + len(counted)
    return keys


def dag_keys(arguments: Sequence[bytes]) -> list[bytes]:
    """The keys of LOAD, PERSIST and ROUTING, and models and scripts; the other names live in the DAG alone."""
    keys: list[bytes] = []
    position = 1
    while position < len(arguments):
        word = arguments[position].upper()
        position += 1
        if word in _DAG_LISTS:
            counted = _counted(arguments, position)
            if counted is None or position + 1 + len(counted) >= len(arguments):
                break
            keys += counted
            position += 1 + len(counted)
        elif word in _DAG_KEYS:
            keys += arguments[position : position + 1]
            position += 1
    return keys


def _counted(arguments: Sequence[bytes], position: int) -> list[bytes] | None:
    """The words behind the count at `position`; None where there is no count or are fewer words."""
    count = integer(arguments[position]) if position < len(arguments) else None
    if count is None or count < 0:
        return None
    words = list(arguments[position + 1 : position + 1 + count])
    return words if len(words) == count else None
