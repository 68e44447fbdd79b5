"""
AI.TENSORSET and AI.TENSORGET.

RedisAI checks the key before the arguments, and so do the bodies here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from redisai_engine.commands.ai.tensor_reply import MANY, in_few_pieces, meta_reply, takes_long, tensor_reply
from redisai_engine.commands.budget import reply_budget
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.tensors import parse_format, parse_tensor
from redisai_engine.commands.refusals import set_nothing
from redisai_engine.commands.steps import Encode, Plan, refuse_error
from redisai_engine.commands.table import READ, WRITE, Keys, command
from redisai_engine.commands.tensor_script import LARGEST
from redisai_engine.errors import CommandError, WrongType
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.replies import Reply
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
    usage="AI.TENSORSET key type [dim ...] [BLOB data | VALUES value ...]",
)
def tensorset(client: Client, arguments: Sequence[bytes]) -> Plan:
    if client.in_transaction:
        return (yield from _set_in_transaction(arguments))
    key = arguments[1]
    tensor = _parsed(arguments) if len(arguments) < MANY else (yield Encode(partial(_parsed, arguments)))
    small = store.tensor_value(tensor) if isinstance(tensor, Tensor) and len(tensor.blob) < LARGEST else None
    if small is not None and (yield from client.tensor_script.set(key, small)):
        return replies.OK
    return (yield from set_in_steps(key, tensor))


def set_in_steps(key: bytes, tensor: Tensor | CommandError) -> Plan:
    """Set a tensor without the script, or raise the error that its words have."""
    while True:
        (head,) = yield [(b"GETRANGE", key, b"0", b"7")]
        store.check_tensor_head(head)
        if isinstance(tensor, CommandError):
            raise tensor
        value = store.tensor_value(tensor)  # not before Redis has let the client read: it may be large
        # An empty reply means that there is no key, or an empty string, which is no tensor; NX tells them apart.
        (reply,) = yield [(b"SET", key, value) if head else (b"SET", key, value, b"NX")]
        refuse_error(reply)
        if reply is not None:
            return replies.OK
        # NX failed because of an empty string, or of a key that another client has just set: then start over.
        (size,) = yield [(b"STRLEN", key)]
        if size == 0:
            raise WrongType


def _parsed(arguments: Sequence[bytes]) -> Tensor | CommandError:
    """Return the tensor, or the error to raise once the key has been checked."""
    try:
        return parse_tensor(arguments[2:]).tensor
    except CommandError as error:
        return error


def _set_in_transaction(arguments: Sequence[bytes]) -> Plan:
    """
    Set a tensor inside MULTI, where the key can't be checked before EXEC.

    A string that turns out to be no tensor is put back right after EXEC.
    """
    key = arguments[1]
    tensor = _parsed(arguments) if len(arguments) < MANY else (yield Encode(partial(_parsed, arguments)))
    if isinstance(tensor, CommandError):
        head, _ = yield [(b"GETRANGE", key, b"0", b"7"), set_nothing(key)]
        store.check_tensor_head(head)
        raise tensor
    value = store.tensor_value(tensor)
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
    usage="AI.TENSORGET key [META] [BLOB | VALUES]",
)
def tensorget(client: Client, arguments: Sequence[bytes]) -> Plan:
    key = arguments[1]
    if [word.upper() for word in arguments[2:]] == [b"META"]:
        (value,) = yield [(b"GETRANGE", key, b"0", _HEADER_BYTES)]
        refuse_error(value)
        dtype, shape = store.parse_shape(value)
        return replies.array(meta_reply(dtype, shape))
    (value,) = yield [(b"GET", key)]
    return (yield from reply_with(client, value, arguments[2:]))


def reply_with(client: Client, value: Any, words: Sequence[bytes]) -> Plan:
    """Return the tensor in GET's reply in the format that the words ask for."""
    tensor, form = tensor_of(value), parse_format(words)
    encoded: Reply
    if takes_long(tensor.shape, form):
        encoded = yield Encode(partial(_encoded, client, tensor, form))
    else:
        encoded = _encoded(client, tensor, form)
    return encoded


def _encoded(client: Client, tensor: Tensor, form: frozenset[bytes]) -> Reply:
    return in_few_pieces(tensor_reply(tensor, form, client.protocol, reply_budget(client.engine.settings)))


def tensor_of(value: Any) -> Tensor:
    """Return the tensor in GET's reply. Raise WrongType, or CommandError if there is no key or Redis refused."""
    refuse_error(value)
    if value is None:
        raise CommandError(texts.TENSOR_MISSING)
    return store.parse_tensor(value)
