"""
TYPE, OBJECT ENCODING and COPY for RedisAI's keys, which are strings and hashes to Redis.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Limited, Pass, Plan, UpstreamCommand, refuse_error, relay
from redisai_engine.commands.table import READ, Keys, command
from redisai_engine.errors import CommandError
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.requests import encode
from redisai_engine.redis import store
from redisai_engine.redis.metadata import MAX_METADATA

_LOOKS = 3  # at a key that comes and goes while questions about it are on their way
_TENSOR_TYPE = "AI_TENSOR"
_MODEL_TYPE = "AI__MODEL"
_SCRIPT_TYPE = "AI_SCRIPT"


@command("TYPE", arity=(2, 2), flags=READ, keys=Keys(1), single_step=True, summary="Reports RedisAI's types too")
def type_(client: Client, arguments: Sequence[bytes]) -> Plan:
    """TYPE key"""
    key = arguments[1]
    kind, ai_type = yield from _asked(client, key, (b"TYPE", key))
    return replies.simple(ai_type or kind.decode())


def _asked(client: Client, key: bytes, command: UpstreamCommand) -> Generator[Any, Any, tuple[Any, str | None]]:
    """
    Return Redis' reply to a command about a key, and RedisAI's name for the type of that key, or None.

    Raise UpstreamError if Redis refuses the command. The command is sent before and after the questions about the type:
    a key that came or went between them is looked at again. Inside MULTI nothing can come or go.
    """
    for _ in range(1 if client.in_transaction else _LOOKS):
        before, *marks, after = yield Limited([command, *_marks(key), command], MAX_METADATA)
        refuse_error(before, after)
        if before == after:
            break
    return after, _ai_type(marks)


def _marks(key: bytes) -> list[UpstreamCommand]:
    """Return the commands whose replies `_ai_type` reads."""
    markers = (store.MARKER, store.SCRIPT_MARKER)
    return [(b"GETRANGE", key, b"0", b"7"), *((b"HGET", key, marker) for marker in markers)]


def _ai_type(marks: Sequence[object]) -> str | None:
    """Return RedisAI's name for the type of a key; None if it isn't one of RedisAI's keys."""
    head, model, script = marks
    if isinstance(head, bytes) and store.is_tensor(head):
        return _TENSOR_TYPE
    if isinstance(model, bytes):
        return _MODEL_TYPE
    return _SCRIPT_TYPE if isinstance(script, bytes) else None


@command(
    "OBJECT",
    arity=(3, 3),
    flags=READ,
    keys=Keys(2),
    single_step=True,
    concerns=lambda arguments: len(arguments) == 3 and arguments[1].upper() == b"ENCODING",
    summary="Reports the encoding of a module's keys",
)
def object_(client: Client, arguments: Sequence[bytes]) -> Plan:
    """OBJECT ENCODING key"""
    encoding, ai_type = yield from _asked(client, arguments[2], tuple(arguments))
    if encoding is None:
        return replies.null(client.protocol)
    return replies.text("raw") if ai_type else replies.bulk(encoding)


@command("COPY", arity=(3, None), flags=READ, keys=Keys(1, 2), summary="Refuses to copy RedisAI's keys")
def copy(client: Client, arguments: Sequence[bytes]) -> Plan:
    """COPY source destination [DB database] [REPLACE]"""
    if client.in_transaction:  # what the key will hold isn't known yet; a copied AI key does no harm
        return (yield from relay(arguments))
    if _ai_type((yield Limited(_marks(arguments[1]), MAX_METADATA))):
        raise CommandError(texts.NOT_COPYABLE)
    client.engine.models.forget_keys(arguments[1:3])
    (raw,) = yield Pass(encode(arguments))
    client.engine.models.forget_keys(arguments[1:3])
    return bytes(raw)
