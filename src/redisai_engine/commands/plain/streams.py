"""
SUBSCRIBE and its variants, MONITOR, SYNC and PSYNC: after them, something arrives that answers no command.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Sequence
from typing import Any

from redisai_engine.commands.connection import ConnectedClient
from redisai_engine.commands.steps import Pass, PassUntil, Plan
from redisai_engine.commands.table import connection_command
from redisai_engine.protocol import replies
from redisai_engine.protocol.replies import command as encode_command
from redisai_engine.protocol.requests import encode

MESSAGES, _MONITOR = "MESSAGES", "MONITOR"  # streams
_CONFIRMATION = re.compile(rb"[*>]3\r\n\$\d+\r\n[ps]?(un)?subscribe\r\n")


def _subscription(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """
    [P | S] SUBSCRIBE or UNSUBSCRIBE has any number of replies.

    Inside MULTI it does to EXEC's reply what it does in Redis: with two channels there is one element too many.
    """
    connection.may_share = False
    if connection.in_transaction:
        (raw,) = yield Pass(encode(arguments))
        if connection.protocol == 2 and is_confirmation(raw):
            connection.streams.add(MESSAGES)
        return bytes(raw)
    yield from look_at_subscriptions(connection, encode(arguments))
    return b""


def look_at_subscriptions(connection: ConnectedClient, request: bytes) -> Generator[Any, Any, None]:
    """Send a request with a PING behind it: the form of PING's reply shows whether RESP2's subscriber mode is on."""
    token = os.urandom(8).hex().encode()
    confirmations = _Confirmations(token, answered=not request)
    raw = yield PassUntil(request + encode_command(b"PING", token), confirmations.is_last)
    # In subscriber mode PING is answered with an array. If PING itself is refused, the confirmations must do.
    subscribed = raw[:1] == b"*" or (raw[:1] == b"-" and connection.protocol == 2 and confirmations.subscribed)
    (connection.streams.add if subscribed else connection.streams.discard)(MESSAGES)


class _Confirmations:
    """Watches the replies to a SUBSCRIBE or UNSUBSCRIBE and to the PING behind it. Redis may refuse either of them."""

    def __init__(self, token: bytes, *, answered: bool) -> None:
        self.subscribed = False
        self._token = token
        self._answered = answered

    def is_last(self, reply: bytes) -> bool:
        """Return whether this is PING's reply. Of two errors the first belongs to the request."""
        if is_confirmation(reply):
            self._answered = True
            self.subscribed = not reply.endswith(b":0\r\n")
        elif reply[:1] == b"-":
            answered, self._answered = self._answered, True
            return answered
        return self._token in reply


def is_confirmation(reply: bytes) -> bool:
    """Return whether a reply confirms that a channel was subscribed to or left."""
    return _CONFIRMATION.match(reply) is not None


for _name in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"):
    connection_command(_name, waits=True)(_subscription)


@connection_command("MONITOR", waits=True)
def monitor(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """MONITOR"""
    connection.may_share = False
    (raw,) = yield Pass(encode(arguments))
    if raw == replies.OK:
        connection.streams.add(_MONITOR)
    return bytes(raw)


def _replication(connection: ConnectedClient, arguments: Sequence[bytes]) -> Plan:
    """SYNC, PSYNC replicationid offset: a snapshot comes, as `redis-cli --rdb` stores it, and then all changes."""
    connection.may_share = False
    if connection.in_transaction:
        (raw,) = yield Pass(encode(arguments))
        return bytes(raw)
    connection.upstream.replicate(encode(arguments))
    return b""


for _name in ("SYNC", "PSYNC"):
    connection_command(_name, waits=True)(_replication)
