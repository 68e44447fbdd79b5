"""
Connections that are kept for predictions and used without a check first.

Before each use, redis-py's pool asks the operating system whether a connection is still good, and it counts uses. That
takes as long as a small prediction. Here a connection turns out to be stale when it is used. Then all are closed, since
whatever ended it has probably ended them too, and the caller, who sends only commands that read, sends them again.

Invariant: a connection is kept only if all replies to everything sent over it have been read, and it is used only by
the process that opened it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from hiredis import pack_command

from mlflow_redisai.server.commands import Command

_COPIED_BYTES = 64 * 1024  # that commands may have to be sent by one call of the socket


class KeptConnections:
    """A store of idle connections, by the redis-py pool that opened them. Many threads may use it."""

    def __init__(self) -> None:
        self._idle: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
        self._process = os.getpid()

    def exchange(self, pool: Any, commands: Sequence[Command]) -> list[Any]:
        """
        Send commands in one write and return their replies, in which an error is an exception object.

        `pool` is redis-py's; it opens the connections. Raise redis-py's exceptions if the server can't be reached.
        """
        idle = self._of(pool)
        try:
            connection = idle.pop()
        except IndexError:
            connection = pool.make_connection()
        try:
            return _ask(connection, commands, idle)
        except Exception as error:
            if _is_lost(error):
                _close(idle)
            raise

    def close(self) -> None:
        """Close all idle connections."""
        for idle in list(self._idle.values()):
            _close(idle)

    def _of(self, pool: Any) -> list[Any]:
        if self._process != os.getpid():  # after a fork the old connections belong to the parent
            self._idle, self._process = WeakKeyDictionary(), os.getpid()
        idle = self._idle.get(pool)
        return self._idle.setdefault(pool, []) if idle is None else idle


def _is_lost(error: Exception) -> bool:
    from redis.exceptions import ConnectionError as Lost

    return isinstance(error, Lost)


def _close(idle: list[Any]) -> None:
    with contextlib.suppress(IndexError):  # another thread may take the last one
        while True:
            idle.pop().disconnect()


def _ask(connection: Any, commands: Sequence[Command], idle: list[Any]) -> list[Any]:
    try:
        connection.send_packed_command(_packed(commands), check_health=False)
        replies = _replies(connection, len(commands))
    except BaseException:  # an interruption leaves replies unread, too
        connection.disconnect()
        raise
    idle.append(connection)
    return replies


def _packed(commands: Sequence[Command]) -> list[bytes]:
    """Return what to send. redis-py's own function looks at every argument, which takes longer than all else here."""
    packed = [pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]  # of any length
    return [b"".join(packed)] if sum(map(len, packed)) <= _COPIED_BYTES else packed


def _replies(connection: Any, count: int) -> list[Any]:
    from redis.exceptions import ResponseError

    replies = []
    for _ in range(count):
        try:
            replies.append(connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies
