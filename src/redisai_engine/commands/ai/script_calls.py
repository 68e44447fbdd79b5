"""
Commands that a running script sends to Redis, carried out as the client's own.

Theory of operation. A script runs in a thread of the executor and blocks there until it is answered. Each of its
commands is a body like any other, carried out in the event loop on the connection of the client that called the script.
That connection does nothing else in the meantime, because the command that runs the script hasn't ended. So access
rights, database and order are the client's.

Invariant: the thread gets an answer even if the connection is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from redisai_engine.backends.base import LoadedModel
from redisai_engine.commands.ai.resolving import resolve_model
from redisai_engine.commands.client import Client
from redisai_engine.commands.invalidation import relay_and_invalidate
from redisai_engine.commands.steps import Plan
from redisai_engine.commands.table import COMMANDS, PLAIN_COMMANDS, InTransaction
from redisai_engine.commands.task import carry_out
from redisai_engine.errors import CommandError
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.frames import ReplyError, Value, decode

# Commands that change the connection's state or block it. Redis' own scripts can't use them, or not to that effect.
_CONNECTION = "AUTH ASKING CLIENT HELLO MONITOR PSYNC QUIT READONLY READWRITE REPLCONF RESET SELECT SYNC"
_TRANSACTION = "DISCARD EXEC MULTI UNWATCH WATCH"
_STREAM = "PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE"
_BLOCKING = "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN WAIT WAITAOF"
_REFUSED = frozenset(" ".join((_CONNECTION, _TRANSACTION, _STREAM, _BLOCKING)).encode().split())
_MAY_BLOCK = (b"XREAD", b"XREADGROUP")


class ClientCaller:
    """Sends a script's commands on behalf of one client. Its methods are called in the script's thread."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def command(self, arguments: Sequence[bytes]) -> Value:
        return self._carry_out(_command(self._client, arguments))

    def model(self, key: bytes) -> LoadedModel:
        found: list[LoadedModel] = []
        reply = self._carry_out(_model(self._client, key, found))
        if isinstance(reply, ReplyError):
            raise CommandError(reply.text)
        return found[0]

    def _carry_out(self, body: Plan) -> Value:
        answer: Future[bytes] = Future()
        self._client.engine.loop.call_soon_threadsafe(carry_out, self._client, body, answer.set_result)
        return decode(answer.result())


def _command(client: Client, arguments: Sequence[bytes]) -> Plan:
    name = arguments[0].upper()
    if name in _REFUSED or (name in _MAY_BLOCK and b"BLOCK" in {word.upper() for word in arguments}):
        raise CommandError(texts.NOT_FROM_SCRIPT)
    row = COMMANDS.get(name) or PLAIN_COMMANDS.get(name)
    if row is None or (row.concerns is not None and not row.concerns(arguments)):
        return (yield from relay_and_invalidate(client, arguments))
    plan = row.plan(client, arguments)
    if row.in_transaction is InTransaction.REFUSE:
        raise CommandError(texts.IN_TRANSACTION)  # a run inside a script would wait for itself
    return (yield from plan)


def _model(client: Client, key: bytes, found: list[LoadedModel]) -> Plan:
    found.append((yield from resolve_model(client, key)).loaded)
    return replies.OK
