"""
Connections kept for predictions, and used without being looked at first.

redis-py's own pool asks the system before each use whether a connection is still good, and keeps counts of uses, which
takes as long as a small prediction. Here a connection turns out to be stale when it is used, and is then replaced by a
new one: what is sent over it only reads, so it can be sent again.

Invariant: a connection is kept only when every reply to what was sent over it has been read, and is used only by the
process that opened it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from mlflow_redisai.server.commands import Command


class KeptConnections:
    """Idle connections of redis-py's pools; may be used by many threads."""

    def __init__(self) -> None:
        self._idle: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
        self._process = os.getpid()

    def exchange(self, pool: Any, commands: Sequence[Command]) -> list[Any]:
        """
        Send commands in one write and return their replies; an error is an element of the result.

        Raise redis-py's exceptions where the server can't be reached. `pool` is redis-py's, which opens connections.
        """
        from redis.exceptions import ConnectionError as Lost

        idle = self._of(pool)
        try:
            connection = idle.pop()
        except IndexError:
            return _ask(pool.make_connection(), commands, idle)
        try:
            return _ask(connection, commands, idle)
        except Lost:  # gone since it was last used, or just now; a new one will tell
            return _ask(pool.make_connection(), commands, idle)

    def close(self) -> None:
        for idle in list(self._idle.values()):
            while idle:
                idle.pop().disconnect()

    def _of(self, pool: Any) -> list[Any]:
        if self._process != os.getpid():  # a fork: the parent goes on using those
            self._idle, self._process = WeakKeyDictionary(), os.getpid()
        idle = self._idle.get(pool)
        return self._idle.setdefault(pool, []) if idle is None else idle


def _ask(connection: Any, commands: Sequence[Command], idle: list[Any]) -> list[Any]:
    try:
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies = [_reply(connection) for _ in commands]
    except BaseException:  # an interruption, too, leaves replies unread
        connection.disconnect()
        raise
    idle.append(connection)
    return replies


def _reply(connection: Any) -> Any:
    from redis.exceptions import ResponseError

    try:
        return connection.read_response()
    except ResponseError as error:
        return error
