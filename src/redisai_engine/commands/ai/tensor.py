"""
AI.TENSORSET and AI.TENSORGET.

RedisAI checks the key before the arguments, and so do the bodies here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redisai_engine.commands.ai.tensor_reply import meta_reply, tensor_reply
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.tensors import parse_format, parse_tensor
from redisai_engine.commands.refusals import set_nothing
from redisai_engine.commands.steps import Plan, refuse_error
from redisai_engine.commands.table import READ, WRITE, Keys, command
from redisai_engine.errors import CommandError, WrongType
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.tensor import Tensor
from redisai_engine.redis import store

_HEADER_BYTES = b"4095"  # the end of the range that holds any header: up to 500 dimensions


@command(
    "AI.TENSORSET",
    arity=(4, None),
    flags=WRITE,
    keys=Keys(1),
    summary="Stores a tensor under a key",
    made_of=("GETRANGE", "SET", "STRLEN"),
)
def tensorset(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.TENSORSET key type [dim ...] [BLOB data | VALUES value ...]"""
    if client.in_transaction:
        return (yield from _set_in_transaction(arguments))
    key = arguments[1]
    value = _value_or_error(arguments)
    if isinstance(value, bytes) and (yield from client.tensor_script.set(key, value)):
        return replies.OK
    while True:
        (head,) = yield [(b"GETRANGE", key, b"0", b"7")]
        store.check_tensor_head(head)
        if isinstance(value, CommandError):
            raise value
        # An empty reply means that there is no key, or an empty string, which is no tensor; NX tells them apart.
        (reply,) = yield [(b"SET", key, value) if head else (b"SET", key, value, b"NX")]
        refuse_error(reply)
        if reply is not None:
            return replies.OK
        # NX failed because of an empty string, or of a key that another client has just set: then start over.
        (size,) = yield [(b"STRLEN", key)]
        if size == 0:
            raise WrongType


def _value_or_error(arguments: Sequence[bytes]) -> bytes | CommandError:
    """Return the tensor's string, or the error to raise once the key has been checked."""
    try:
        return store.tensor_value(parse_tensor(arguments[2:]).tensor)
    except CommandError as error:
        return error


def _set_in_transaction(arguments: Sequence[bytes]) -> Plan:
    """
    Set a tensor inside MULTI, where the key can't be checked before EXEC.

    A string that turns out to be no tensor is put back right after EXEC.
    """
    key = arguments[1]
    value = _value_or_error(arguments)
    if isinstance(value, CommandError):
        head, _ = yield [(b"GETRANGE", key, b"0", b"7"), set_nothing(key)]
        store.check_tensor_head(head)
        raise value
    ttl, old = yield [(b"PTTL", key), (b"SET", key, value, b"GET")]
    refuse_error(old)
    if old is not None and not store.is_tensor(old):
        yield [(b"SET", key, old, b"PX", b"%d" % ttl) if ttl > 0 else (b"SET", key, old)]
        raise WrongType
    return replies.OK


@command(
    "AI.TENSORGET",
    arity=(2, 4),
    flags=READ,
    keys=Keys(1),
    single_step=True,
    summary="Reads a tensor",
    made_of=("GET", "GETRANGE"),
)
def tensorget(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.TENSORGET key [META] [BLOB | VALUES]"""
    key = arguments[1]
    if [word.upper() for word in arguments[2:]] == [b"META"]:
        (value,) = yield [(b"GETRANGE", key, b"0", _HEADER_BYTES)]
        refuse_error(value)
        dtype, shape = store.parse_shape(value)
        return replies.array(meta_reply(dtype, shape))
    (value,) = yield [(b"GET", key)]
    return tensor_reply(tensor_of(value), parse_format(arguments[2:]), client.protocol)


def tensor_of(value: Any) -> Tensor:
    """Return the tensor in GET's reply. Raise WrongType, or CommandError if there is no key or Redis refused."""
    refuse_error(value)
    if value is None:
        raise CommandError(texts.TENSOR_MISSING)
    return store.parse_tensor(value)
