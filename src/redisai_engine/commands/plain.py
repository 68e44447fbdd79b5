"""
The plain commands that the engine has to see, although Redis answers them.

Some change what the engine must know of the connection (protocol, database, transaction, streams), some have a reply
that AI keys change. All other commands never come here: they are relayed.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from redisai_engine import store
from redisai_engine.commands.modules import with_module
from redisai_engine.commands.table import (
    NO_KEYS,
    READ,
    Context,
    InTransaction,
    Keys,
    Pass,
    PassUntil,
    Plan,
    Silence,
    command,
    refuse_error,
)
from redisai_engine.errors import CommandError
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.frames import decode, elements
from redisai_engine.protocol.replies import command as encode_command
from redisai_engine.protocol.requests import encode
from redisai_engine.transaction import Transaction, finish

#: Commands that can change any key without naming it.
TOUCH_ALL = frozenset((b"FLUSHALL", b"FLUSHDB", b"SWAPDB", b"EVAL", b"EVALSHA", b"FCALL", b"DEBUG"))

_TENSOR_TYPE = "AI_TENSOR"
_MODEL_TYPE = "AI__MODEL"


# Keys


@command("TYPE", arity=(2, 2), flags=READ, keys=Keys(1), single_step=True, summary="Names RedisAI's types too")
def type_(context: Context, arguments: Sequence[bytes]) -> Plan:
    """TYPE key"""
    key = arguments[1]
    kind, head, marker = yield [(b"TYPE", key), (b"GETRANGE", key, b"0", b"7"), (b"HGET", key, store.MARKER)]
    refuse_error(kind)
    if isinstance(head, bytes) and store.is_tensor(head):
        return replies.simple(_TENSOR_TYPE)
    return replies.simple(_MODEL_TYPE if isinstance(marker, bytes) else kind.decode())


@command("COPY", arity=(3, None), flags=READ, keys=Keys(1, 2), summary="RedisAI's keys can't be copied")
def copy(context: Context, arguments: Sequence[bytes]) -> Plan:
    """COPY source destination [DB database] [REPLACE]"""
    head, marker = yield [(b"GETRANGE", arguments[1], b"0", b"7"), (b"HGET", arguments[1], store.MARKER)]
    if isinstance(marker, bytes) or (isinstance(head, bytes) and store.is_tensor(head)):
        raise CommandError(texts.NOT_COPYABLE)
    context.engine.models.distrust(arguments[1:3])
    (raw,) = yield Pass(encode(arguments))
    context.engine.models.distrust(arguments[1:3])
    return bytes(raw)


def touching(context: Context, arguments: Sequence[bytes]) -> Plan:
    """The body of any plain command that may change the key of a model that is in use."""
    models = context.engine.models
    touches_all = arguments[0].upper() in TOUCH_ALL
    keys = models.names if touches_all else models.names.intersection(arguments)
    keys = set(keys)
    models.distrust(keys)
    (raw,) = yield Pass(encode(arguments))
    models.distrust(keys)
    return bytes(raw)


# The connection


@command("SELECT", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.RELAY, summary="")
def select(context: Context, arguments: Sequence[bytes]) -> Plan:
    """SELECT index"""
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        context.database = int(arguments[1])
    return bytes(raw)


@command("AUTH", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.RELAY, summary="")
def auth(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AUTH [username] password"""
    (raw,) = yield Pass(encode(arguments))
    context.forget_rights()
    return bytes(raw)


@command("HELLO", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.RELAY, waits=True, summary="")
def hello(context: Context, arguments: Sequence[bytes]) -> Plan:
    """HELLO [version [AUTH username password] [SETNAME name]]"""
    (raw,) = yield Pass(encode(arguments))
    context.forget_rights()
    if raw[:1] not in (b"%", b"*"):
        return bytes(raw)
    context.protocol = 3 if raw[:1] == b"%" else 2
    fields = elements(raw)
    names = [decode(name) for name in fields[::2]]
    facts = dict(zip(names, fields[1::2], strict=True))
    version = decode(facts[b"version"])
    if b"modules" in facts and isinstance(version, bytes):
        facts[b"modules"] = with_module(facts[b"modules"], version, context.protocol)
    return replies.mapping([*zip(fields[::2], facts.values(), strict=True)], context.protocol)


@command("RESET", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.NOW, waits=True, summary="")
def reset(context: Context, arguments: Sequence[bytes]) -> Plan:
    """RESET"""
    # In subscriber mode errors of earlier commands may still be on their way.
    raw = yield PassUntil(encode(arguments), lambda r: r == b"+RESET\r\n" or (r[:1] == b"-" and b"'reset'" in r))
    if raw[:1] == b"+":
        context.reset()
    return bytes(raw)


@command("CLIENT", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.RELAY, summary="")
def client(context: Context, arguments: Sequence[bytes]) -> Plan:
    """CLIENT REPLY ON | OFF | SKIP is done here, since the engine needs Redis' replies; the rest goes to Redis."""
    words = [word.upper() for word in arguments[1:3]]
    if len(arguments) == 3 and words[0] == b"REPLY" and words[1] in (b"ON", b"OFF", b"SKIP"):
        if words[1] == b"ON":
            context.end_silence()
            return replies.OK
        if context.silence is not Silence.OFF:
            context.silence = Silence.OFF if words[1] == b"OFF" else Silence.SKIP
        return b""
    (raw,) = yield Pass(encode(arguments))
    return bytes(raw)


# Transactions


@command("MULTI", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.NOW, summary="")
def multi(context: Context, arguments: Sequence[bytes]) -> Plan:
    """MULTI"""
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        context.transaction = Transaction()
    return bytes(raw)


@command("EXEC", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.NOW, summary="")
def exec_(context: Context, arguments: Sequence[bytes]) -> Plan:
    """EXEC"""
    transaction = context.transaction
    if transaction is None or len(arguments) > 1:
        return (yield from _pass(arguments))
    context.transaction = None
    (raw,) = yield Pass(encode(arguments))
    models = context.engine.models
    models.distrust(models.names if transaction.touches_all else transaction.touched)
    if transaction.is_plain:
        return bytes(raw)
    return (yield from finish(transaction, context, raw))


@command("DISCARD", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.NOW, summary="")
def discard(context: Context, arguments: Sequence[bytes]) -> Plan:
    """DISCARD"""
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        context.transaction = None
    return bytes(raw)


def _pass(arguments: Sequence[bytes]) -> Plan:
    (raw,) = yield Pass(encode(arguments))
    return bytes(raw)


# Streams


def _subscription(context: Context, arguments: Sequence[bytes]) -> Plan:
    """
    [P | S] SUBSCRIBE or UNSUBSCRIBE has any number of replies; PING's, sent behind, shows that all are there.

    Its form shows whether the connection is in RESP2's subscriber mode now.
    """
    token = secrets.token_hex(8).encode()
    request = encode(arguments) + encode_command(b"PING", token)
    raw = yield PassUntil(request, lambda reply: token in reply or (reply[:1] == b"-" and b"'ping'" in reply))
    context.streaming = raw[:1] == b"*"
    return b""


for _name in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"):
    command(_name, arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.RELAY, waits=True, summary="")(
        _subscription
    )


@command("MONITOR", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.RELAY, waits=True, summary="")
def monitor(context: Context, arguments: Sequence[bytes]) -> Plan:
    """MONITOR"""
    (raw,) = yield Pass(encode(arguments))
    context.streaming = raw == replies.OK
    return bytes(raw)
