"""
Finding the keys that are RedisAI's: the search of AI._MODELSCAN and AI._SCRIPTSCAN, and SCAN with RedisAI's types.

Redis knows neither, so strings or hashes are scanned in slices and each is asked for its mark. Nothing blocks other
clients for longer than one slice takes. A key that the client may not read isn't found.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from redisai_engine import store
from redisai_engine.commands.table import NO_KEYS, READ, Context, Plan, command, refuse_error
from redisai_engine.protocol import replies

_SLICE = b"1000"  # keys looked at before other clients get their turn
_TENSOR, _MODEL, _SCRIPT = b"AI_TENSOR", b"AI__MODEL", b"AI_SCRIPT"
_HELD_BY = {_TENSOR: b"string", _MODEL: b"hash", _SCRIPT: b"hash"}
_MARKERS = {_MODEL: store.MARKER, _SCRIPT: store.SCRIPT_MARKER}


def scan_hashes(context: Context, field: bytes) -> Generator[Any, Any, dict[bytes, bytes]]:
    """
    Gives the value of `field` for every key whose hash has it.

    Inside MULTI only what earlier commands of the same transaction stored is read in its place; the other keys are
    scanned when EXEC is over, because a scan in its middle would stop Redis for as long as it takes.
    """
    own: dict[bytes, bytes] = {}
    if context.transaction is not None:
        keys = list(context.transaction.stored)
        _, *values = yield [(b"PING",), *((b"HGET", key, field) for key in keys)]
        own = _present(keys, values)
    found: dict[bytes, bytes] = {}
    cursor = b"0"
    while True:
        (slice_,) = yield [(b"SCAN", cursor, b"TYPE", b"hash", b"COUNT", _SLICE)]
        refuse_error(slice_)
        cursor, keys = slice_
        if keys:
            found |= _present(keys, (yield [(b"HGET", key, field) for key in keys]))
        if cursor == b"0":
            return found | own


def _present(keys: Sequence[bytes], values: Sequence[Any]) -> dict[bytes, bytes]:
    return {key: value for key, value in zip(keys, values, strict=True) if isinstance(value, bytes)}


def _type_position(arguments: Sequence[bytes]) -> int | None:
    """Where a request of SCAN has one of RedisAI's types, if it does; options stand in pairs behind the cursor."""
    for place in range(2, len(arguments) - 1, 2):
        if arguments[place].upper() == b"TYPE" and arguments[place + 1].upper() in _HELD_BY:
            return place + 1
    return None


@command(
    "SCAN",
    arity=(2, None),
    flags=READ,
    keys=NO_KEYS,
    concerns=lambda arguments: _type_position(arguments) is not None,
    summary="Knows RedisAI's types too",
)
def scan(context: Context, arguments: Sequence[bytes]) -> Plan:
    """SCAN cursor TYPE AI_TENSOR | AI__MODEL | AI_SCRIPT [MATCH pattern] [COUNT count]"""
    place = _type_position(arguments)
    assert place is not None
    kind = arguments[place].upper()
    (slice_,) = yield [(*arguments[:place], _HELD_BY[kind], *arguments[place + 1 :])]
    refuse_error(slice_)
    cursor, keys = slice_
    if kind == _TENSOR:
        marks = yield [(b"GETRANGE", key, b"0", b"7") for key in keys]
        found = [
            key for key, mark in zip(keys, marks, strict=True) if isinstance(mark, bytes) and store.is_tensor(mark)
        ]
    else:
        found = list(_present(keys, (yield [(b"HGET", key, _MARKERS[kind]) for key in keys])))
    return replies.array([replies.bulk(cursor), replies.array([replies.bulk(key) for key in found])])
