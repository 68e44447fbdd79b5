"""
SCAN with RedisAI's types.

Redis doesn't know these types, so strings or hashes are scanned and each is checked for its marker. A key that the
client may not read isn't listed.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.commands.client import Client
from redisai_engine.commands.hashes import present
from redisai_engine.commands.steps import Limited, Plan, refuse_error
from redisai_engine.commands.table import NO_KEYS, READ, command
from redisai_engine.protocol import replies
from redisai_engine.redis import store
from redisai_engine.redis.metadata import MAX_METADATA

_TENSOR, _MODEL, _SCRIPT = b"AI_TENSOR", b"AI__MODEL", b"AI_SCRIPT"
_HELD_BY = {_TENSOR: b"string", _MODEL: b"hash", _SCRIPT: b"hash"}
_MARKERS = {_MODEL: store.MARKER, _SCRIPT: store.SCRIPT_MARKER}


def _type_position(arguments: Sequence[bytes]) -> int | None:
    """Return the position of one of RedisAI's types in a SCAN request; None if there is none."""
    for place in range(2, len(arguments) - 1, 2):  # options come in pairs after the cursor
        if arguments[place].upper() == b"TYPE" and arguments[place + 1].upper() in _HELD_BY:
            return place + 1
    return None


@command(
    "SCAN",
    arity=(2, None),
    flags=READ,
    keys=NO_KEYS,
    concerns=lambda arguments: _type_position(arguments) is not None,
    summary="Accepts RedisAI's types too",
)
def scan(client: Client, arguments: Sequence[bytes]) -> Plan:
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
        marks = yield Limited([(b"HGET", key, _MARKERS[kind]) for key in keys], MAX_METADATA)
        found = list(present(keys, marks))
    return replies.array([replies.bulk(cursor), replies.array([replies.bulk(key) for key in found])])
