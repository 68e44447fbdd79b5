"""
Find the keys that a request names, for commands whose keys have no fixed positions: COMMAND GETKEYS answers with them.

RedisAI collects keys before it checks anything else, so even a malformed request may have keys. After a bad count, the
keys found so far are all there are. These functions reproduce that, and they leave out what RedisAI leaves out by
mistake.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.commands.grammar.words import integer

_SCRIPT_LISTS = (b"KEYS", b"INPUTS", b"OUTPUTS")
_DAG_LISTS = (b"LOAD", b"PERSIST")
_DAG_KEYS = (b"ROUTING", b"AI.MODELEXECUTE", b"AI.SCRIPTEXECUTE")  # one key follows


def modelexecute_keys(arguments: Sequence[bytes]) -> list[bytes]:
    """
    Return the model and, if both counts fit, the inputs and outputs.

    A count moves the place where the next one is expected, even backwards.
    """
    if len(arguments) < 4:
        return []
    model = [arguments[1]]
    inputs = integer(arguments[3])
    if inputs is None or not 0 <= 5 + inputs < len(arguments):
        return model
    place = 5 + inputs
    outputs = integer(arguments[place])
    if outputs is None or not 0 <= place + outputs < len(arguments):
        return model
    return [*model, *arguments[4 : max(4 + inputs, 4)], *arguments[place + 1 : max(place + 1 + outputs, 0)]]


def modelrun_keys(arguments: Sequence[bytes]) -> list[bytes]:
    """Return the model, inputs and outputs of the deprecated form."""
    return _run_keys(arguments, 2)


def scriptrun_keys(arguments: Sequence[bytes]) -> list[bytes]:
    """Return the script, inputs and outputs of the deprecated form. `$`, which marks a list, is no key."""
    return [key for key in _run_keys(arguments, 3) if key != b"$"]


def _run_keys(arguments: Sequence[bytes], position: int) -> list[bytes]:
    """Return all words except the keywords; `position` is the index of INPUTS or TIMEOUT."""
    if len(arguments) > position and arguments[position].upper() == b"TIMEOUT":
        position += 2
    words = arguments[position + 1 :]
    return [*arguments[1:2], *(word for word in words if word.upper() != b"OUTPUTS")]


def scriptexecute_keys(arguments: Sequence[bytes]) -> list[bytes]:
    """
    Return the script and the words of its lists, up to ARGS or a count that isn't positive.

    A list at the very end is left out, as RedisAI does by mistake.
    """
    if len(arguments) < 6:
        return []
    keys = [arguments[1]]
    position = 3
    while position < len(arguments) and arguments[position].upper() in _SCRIPT_LISTS:
        counted = _counted(arguments, position + 1)
        if not counted or position + 2 + len(counted) >= len(arguments):
            break
        keys += counted
        position += 2 + len(counted)
    return keys


def dag_keys(arguments: Sequence[bytes]) -> list[bytes]:
    """Return the keys of LOAD, PERSIST and ROUTING, and the models and scripts; other names live in the DAG only."""
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
    """
    Return the words that the count at `position` announces; None if there is no count or there are too few words.

    A negative count announces none, unless it points in front of the command.
    """
    count = integer(arguments[position]) if position < len(arguments) else None
    if count is None or count < -(position + 1):
        return None
    words = list(arguments[position + 1 : position + 1 + max(count, 0)])
    return words if len(words) == max(count, 0) else None
