"""
Plain commands that change what the engine must know about the connection: protocol, database, silence, and its end.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.commands.client import DEFAULT_USER
from redisai_engine.commands.connection import ConnectedClient, Silence
from redisai_engine.commands.plain.modules import with_module
from redisai_engine.commands.plain.streams import MESSAGES, look_at_subscriptions
from redisai_engine.commands.steps import Pass, Plan, refuse_error
from redisai_engine.commands.table import InTransaction, connection_command
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.frames import ReplyError, decode, elements
from redisai_engine.protocol.requests import encode

#: Is a write to Redis, and without effect unless somebody has subscribed to it.
_MARK = (b"PUBLISH", b"redisai:written", b"")
_OPEN_SECONDS = 1.0  # how long Redis is taken to let clients in without a password after it has let one in
PONG_RIGHT = (b"", b"PING")  # Redis is up and lets this client ask


@connection_command("SELECT")
def select(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """SELECT index"""
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        connection.database = int(arguments[1])
    return bytes(raw)


@connection_command("AUTH")
def auth(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """AUTH [username] password"""
    connection.begins_login()
    (raw,) = yield Pass(encode(arguments))
    connection.forget_rights()
    if raw == replies.OK:
        connection.limits.widen()
        connection.logged_in(arguments[1] if len(arguments) > 2 else DEFAULT_USER, arguments[-1])
    return bytes(raw)


@connection_command("HELLO", waits=True)
def hello(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """HELLO [version [AUTH username password] [SETNAME name]]"""
    queued = connection.in_transaction
    if b"AUTH" in map(bytes.upper, arguments):
        connection.begins_login()
    (raw,) = yield Pass(encode(arguments))
    connection.forget_rights()
    if raw[:1] not in (b"%", b"*"):
        return bytes(raw)
    connection.limits.widen()
    given = _credentials(arguments)
    if given is not None:
        connection.logged_in(*given)
    before, connection.protocol = connection.protocol, 3 if raw[:1] == b"%" else 2
    if connection.protocol == 3:
        connection.streams.discard(MESSAGES)
    elif before == 3 and not queued:  # subscriptions made in RESP3 now mean subscriber mode
        yield from look_at_subscriptions(connection, b"")
    fields = elements(raw)
    names = [decode(name) for name in fields[::2]]
    facts = dict(zip(names, fields[1::2], strict=True))
    version = decode(facts[b"version"])
    if b"modules" in facts and isinstance(version, bytes):
        facts[b"modules"] = with_module(facts[b"modules"], version, connection.protocol)
    return replies.mapping([*zip(fields[::2], facts.values(), strict=True)], connection.protocol)


def _credentials(arguments: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Return user and password with which a HELLO logs in. A name that it sets may be `auth`, too."""
    given, position = None, 2
    while position + 2 < len(arguments):
        is_login = arguments[position].upper() == b"AUTH"
        if is_login:
            given = arguments[position + 1], arguments[position + 2]
        position += 3 if is_login else 2
    return given


@connection_command("RESET", in_transaction=InTransaction.NOW, waits=True)
def reset(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """RESET"""
    (raw,) = yield Pass(encode(arguments))
    if raw[:1] == b"+":
        connection.reset()
    return bytes(raw)


@connection_command("PING", single_step=True, concerns=lambda arguments: len(arguments) == 1)
def ping(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """
    PING asks Redis. For a second after its PONG, the session answers further ones itself (`PONG_RIGHT`).

    So a client that measures latency sees the round trip to the engine, and a health check still notices a Redis that
    hangs.
    """
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.PONG and not connection.streams and not connection.in_transaction:
        connection.rights.grant(*PONG_RIGHT)
    return bytes(raw)


@connection_command("QUIT", in_transaction=InTransaction.NOW)
def quit_(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """QUIT"""
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        connection.close()
    return bytes(raw)


def _is_client_reply(arguments: Sequence[bytes]) -> bool:
    return len(arguments) == 3 and arguments[1].upper() == b"REPLY" and arguments[2].upper() in (b"ON", b"OFF", b"SKIP")


@connection_command("CLIENT", concerns=_is_client_reply)
def client_reply(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """CLIENT REPLY ON | OFF | SKIP is carried out here, because the engine itself needs Redis' replies."""
    queued = connection.in_transaction
    (raw,) = yield Pass(encode((*arguments[:2], b"ON")))  # changes nothing, but shows whether the client may do it
    if raw != replies.OK:
        return bytes(raw)
    wanted = arguments[2].upper()
    if wanted == b"ON":
        connection.end_silence()
    elif wanted == b"OFF":
        connection.silence = Silence.OFF
    elif connection.silence is Silence.NONE:
        connection.silence = Silence.SKIP
    # EXEC's reply must not lack an element: the client couldn't make out the others.
    return replies.OK if wanted == b"ON" or queued else b""


def mark_writes(connection: ConnectedClient) -> list[object]:
    """
    Have Redis count a write for this connection if the client has written over the shared one.

    Redis answers WAIT by the latest write of the connection that sends it, and inside MULTI it is too late for another.
    Return a list that will hold Redis' answer, if it is asked.
    """
    answers: list[object] = []
    if connection.wrote_apart:
        connection.wrote_apart = False
        connection.upstream.ask([_MARK], answers.extend)
    return answers


def _wait(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """WAIT replicas timeout, WAITAOF local replicas timeout"""
    marked = mark_writes(connection)
    (raw,) = yield Pass(encode(arguments))
    refuse_error(*marked)  # Redis' answer would be about earlier writes
    return bytes(raw)


for _name in ("WAIT", "WAITAOF"):
    connection_command(_name, single_step=True)(_wait)


def admission(connection: ConnectedClient, refusal: str) -> Plan:
    """
    Let a client send large requests if Redis carries out its commands, and refuse its request otherwise.

    Redis itself answers who has logged in: the engine can't know all that AUTH, ACL and `requirepass` decide.
    """
    (answer,) = yield [(b"PING",)]
    if isinstance(answer, ReplyError) and answer.text.startswith("NOAUTH"):
        connection.close()
        return replies.error(f"ERR {refusal}")
    connection.limits.widen()
    connection.engine.open_until = connection.engine.loop.time() + _OPEN_SECONDS
    return b""


def protection(connection: ConnectedClient) -> Plan:
    """
    Let a client of another machine in if Redis asks it for a password, and refuse it otherwise (protected mode).

    Redis' own protected mode can't: it sees the engine's connections only. Here, too, who is in stays in.
    """
    (answer,) = yield [(b"PING",)]
    if isinstance(answer, ReplyError) and answer.text.startswith("NOAUTH"):
        return b""
    connection.close()
    # Whoever lacks the right to PING has been let in. With any other error, Redis serves nobody now.
    refused = isinstance(answer, ReplyError) and not answer.text.startswith("NOPERM")
    return replies.error(answer.text if refused else texts.PROTECTED)


def is_admitted(connection: ConnectedClient) -> bool:
    """Return whether a client may send large requests, as far as that is known without asking Redis."""
    if connection.shows_login or connection.engine.loop.time() < connection.engine.open_until:
        connection.limits.widen()
        return True
    return False
