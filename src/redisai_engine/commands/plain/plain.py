"""
The plain commands that the engine has to see, although Redis answers them.

Some change what the engine must know of the connection (protocol, database, transaction, streams), some have a reply
that AI keys change. All other commands never come here: they are relayed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Generator, Sequence
from typing import Any

from redisai_engine.commands.plain.modules import with_module
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
    UpstreamCommand,
    command,
    refuse_error,
)
from redisai_engine.commands.transaction import Transaction, finish
from redisai_engine.errors import CommandError
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.frames import decode, elements
from redisai_engine.protocol.replies import command as encode_command
from redisai_engine.protocol.requests import encode
from redisai_engine.redis import store

_TENSOR_TYPE = "AI_TENSOR"
_MODEL_TYPE = "AI__MODEL"
_SCRIPT_TYPE = "AI_SCRIPT"

_MESSAGES, _MONITOR = "MESSAGES", "MONITOR"  # streams
PONG_RIGHT = (b"", b"PING")  # that Redis is there and lets this client ask
_CONFIRMATION = re.compile(rb"[*>]3\r\n\$\d+\r\n[ps]?(un)?subscribe\r\n")


# Keys


@command("TYPE", arity=(2, 2), flags=READ, keys=Keys(1), single_step=True, summary="Names RedisAI's types too")
def type_(context: Context, arguments: Sequence[bytes]) -> Plan:
    """TYPE key"""
    key = arguments[1]
    kind, *marks = yield [(b"TYPE", key), *_marks(key)]
    refuse_error(kind)
    return replies.simple(_ai_type(marks) or kind.decode())


def _marks(key: bytes) -> list[UpstreamCommand]:
    """The commands whose replies tell `_ai_type`."""
    markers = (store.MARKER, store.SCRIPT_MARKER)
    return [(b"GETRANGE", key, b"0", b"7"), *((b"HGET", key, marker) for marker in markers)]


def _ai_type(marks: Sequence[object]) -> str | None:
    """RedisAI's name for the type of a key; None for a key of another."""
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
    summary="Tells the encoding that module keys have",
)
def object_(context: Context, arguments: Sequence[bytes]) -> Plan:
    """OBJECT ENCODING key"""
    encoding, *marks = yield [tuple(arguments), *_marks(arguments[2])]
    refuse_error(encoding)
    if encoding is None:
        return replies.null(context.protocol)
    return replies.text("raw") if _ai_type(marks) else replies.bulk(encoding)


@command("COPY", arity=(3, None), flags=READ, keys=Keys(1, 2), summary="RedisAI's keys can't be copied")
def copy(context: Context, arguments: Sequence[bytes]) -> Plan:
    """COPY source destination [DB database] [REPLACE]"""
    if context.in_transaction:  # what the key will hold isn't known yet; a copy of RedisAI's keys does no harm
        return (yield from _pass(arguments))
    if _ai_type((yield _marks(arguments[1]))):
        raise CommandError(texts.NOT_COPYABLE)
    context.engine.models.distrust(arguments[1:3])
    (raw,) = yield Pass(encode(arguments))
    context.engine.models.distrust(arguments[1:3])
    return bytes(raw)


# The connection


@command("SELECT", arity=(1, None), flags=(), keys=NO_KEYS, summary="")
def select(context: Context, arguments: Sequence[bytes]) -> Plan:
    """SELECT index"""
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        context.database = int(arguments[1])
    return bytes(raw)


@command("AUTH", arity=(1, None), flags=(), keys=NO_KEYS, summary="")
def auth(context: Context, arguments: Sequence[bytes]) -> Plan:
    """AUTH [username] password"""
    (raw,) = yield Pass(encode(arguments))
    context.forget_rights()
    return bytes(raw)


@command("HELLO", arity=(1, None), flags=(), keys=NO_KEYS, waits=True, summary="")
def hello(context: Context, arguments: Sequence[bytes]) -> Plan:
    """HELLO [version [AUTH username password] [SETNAME name]]"""
    queued = context.in_transaction
    (raw,) = yield Pass(encode(arguments))
    context.forget_rights()
    if raw[:1] not in (b"%", b"*"):
        return bytes(raw)
    before, context.protocol = context.protocol, 3 if raw[:1] == b"%" else 2
    if context.protocol == 3:
        context.streams.discard(_MESSAGES)
    elif before == 3 and not queued:
        yield from _look_at_subscriptions(context, b"")
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
    (raw,) = yield Pass(encode(arguments))
    if raw[:1] == b"+":
        context.reset()
    return bytes(raw)


@command(
    "PING",
    arity=(1, None),
    flags=(),
    keys=NO_KEYS,
    single_step=True,
    concerns=lambda arguments: len(arguments) == 1,
    summary="",
)
def ping(context: Context, arguments: Sequence[bytes]) -> Plan:
    """
    PING asks Redis, and for a second after its PONG the session answers further ones itself (`PONG_RIGHT`).

    A client that measures its way to the engine measures that way, and health checks still see a Redis that hangs.
    """
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.PONG and not context.streams and not context.in_transaction:
        context.rights.grant(*PONG_RIGHT)
    return bytes(raw)


@command("QUIT", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.NOW, summary="")
def quit_(context: Context, arguments: Sequence[bytes]) -> Plan:
    """QUIT"""
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        context.close()
    return bytes(raw)


def _is_client_reply(arguments: Sequence[bytes]) -> bool:
    return len(arguments) == 3 and arguments[1].upper() == b"REPLY" and arguments[2].upper() in (b"ON", b"OFF", b"SKIP")


@command("CLIENT", arity=(1, None), flags=(), keys=NO_KEYS, concerns=_is_client_reply, summary="")
def client_reply(context: Context, arguments: Sequence[bytes]) -> Plan:
    """CLIENT REPLY ON | OFF | SKIP is done here, since the engine needs Redis' replies."""
    queued = context.in_transaction
    (raw,) = yield Pass(encode((*arguments[:2], b"ON")))  # changes nothing, but shows whether it is allowed
    if raw != replies.OK:
        return bytes(raw)
    wanted = arguments[2].upper()
    if wanted == b"ON":
        context.end_silence()
    elif wanted == b"OFF":
        context.silence = Silence.OFF
    elif context.silence is Silence.NONE:
        context.silence = Silence.SKIP
    # Among EXEC's replies none may be missing: then nobody could read the rest.
    return replies.OK if wanted == b"ON" or queued else b""


# Transactions


@command("WATCH", arity=(1, None), flags=(), keys=NO_KEYS, in_transaction=InTransaction.NOW, summary="")
def watch(context: Context, arguments: Sequence[bytes]) -> Plan:
    """WATCH key ... is never queued: inside MULTI it is an error that does no harm."""
    return (yield from _pass(arguments))


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
    context.transaction = None
    (raw,) = yield Pass(encode(arguments))
    if transaction is None:
        return bytes(raw)
    models = context.engine.models
    models.distrust(models.names if transaction.touches_all else transaction.touched)
    if transaction.is_plain:
        return bytes(raw)
    return (yield from finish(context, transaction, raw))


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
    [P | S] SUBSCRIBE or UNSUBSCRIBE has any number of replies.

    Inside MULTI it makes of EXEC's reply what it makes of it in Redis: with two channels there is one element too many.
    """
    if context.in_transaction:
        (raw,) = yield Pass(encode(arguments))
        if context.protocol == 2 and is_confirmation(raw):
            context.streams.add(_MESSAGES)
        return bytes(raw)
    yield from _look_at_subscriptions(context, encode(arguments))
    return b""


def _look_at_subscriptions(context: Context, request: bytes) -> Generator[Any, Any, None]:
    """Sends a request and PING behind it, whose reply shows by its form whether RESP2's subscriber mode is on."""
    token = secrets.token_hex(8).encode()
    confirmations = _Confirmations(token, answered=not request)
    raw = yield PassUntil(request + encode_command(b"PING", token), confirmations.is_last)
    subscribed = raw[:1] == b"*" or (raw[:1] == b"-" and context.protocol == 2 and confirmations.subscribed)
    (context.streams.add if subscribed else context.streams.discard)(_MESSAGES)


class _Confirmations:
    """Looks at what comes for a SUBSCRIBE or UNSUBSCRIBE and the PING behind it, which may be refused, both of them."""

    def __init__(self, token: bytes, *, answered: bool) -> None:
        self.subscribed = False
        self._token = token
        self._answered = answered

    def is_last(self, reply: bytes) -> bool:
        if is_confirmation(reply):
            self._answered = True
            self.subscribed = not reply.endswith(b":0\r\n")
        elif reply[:1] == b"-":
            answered, self._answered = self._answered, True
            return answered
        return self._token in reply


def is_confirmation(reply: bytes) -> bool:
    """Tells whether a reply says that a channel was subscribed to or left."""
    return _CONFIRMATION.match(reply) is not None


for _name in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"):
    command(_name, arity=(1, None), flags=(), keys=NO_KEYS, waits=True, summary="")(_subscription)


@command("MONITOR", arity=(1, None), flags=(), keys=NO_KEYS, waits=True, summary="")
def monitor(context: Context, arguments: Sequence[bytes]) -> Plan:
    """MONITOR"""
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        context.streams.add(_MONITOR)
    return bytes(raw)
