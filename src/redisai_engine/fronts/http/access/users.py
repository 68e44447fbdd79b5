"""
Who asks: credentials from a request become Redis' AUTH, on connections that the requests of one user share.

Theory of operation. HTTP has no sessions. So the connections to Redis are pooled by credentials, a few for each user.
A connection is used once Redis has accepted the credentials on it. They count for a second; the next request after that
has Redis confirm them. So a password that was changed in Redis opens nothing longer than that. A request takes a
connection on which no reply is due, if there is one, so a model that is being read holds up only those who wait for it.

Invariant: a connection serves one user only, and nothing is asked on it before Redis has accepted the credentials.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from redisai_engine.commands.client import DEFAULT_USER
from redisai_engine.commands.steps import refuse_error
from redisai_engine.errors import EngineError, UpstreamError
from redisai_engine.fronts.http.access.connection import UserConnection
from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.service.engine import Engine

_SECONDS = 1.0  # for which credentials count after Redis has confirmed them
_MOST_CONNECTIONS = 8  # to Redis, for one user
_MOST_USERS = 256  # whose connections are kept
_MOST_LOGINS = 64  # of users that aren't known yet, at the same time
_NOBODYS_PASSWORD = secrets.token_hex(16).encode()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client shows: a user's name and password. An empty name is Redis' default user."""

    user: str
    password: str = field(repr=False)

    @property
    def name(self) -> bytes:
        return _bytes(self.user) if self.user else DEFAULT_USER

    @property
    def words(self) -> tuple[bytes, ...]:
        """The arguments of AUTH."""
        return (_bytes(self.user), _bytes(self.password)) if self.user else (_bytes(self.password),)


class User:
    """
    One user's connections to Redis. `confirmed_until` is in the event loop's time.

    `name` is Redis' name of the user; empty for whoever a new connection belongs to.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        self.credentials = credentials
        self.name = b"" if credentials is None else credentials.name
        self.connections: list[UserConnection] = []
        self.confirmed_until = 0.0
        self.is_growing = False
        self.confirming: asyncio.Task[None] | None = None

    def connection(self) -> UserConnection | None:
        """Return a connection on which nothing is due, else the first one; None if there is none."""
        for connection in self.connections:
            if connection.client.may_trust and not connection.is_lost:
                return connection
        self.connections = [connection for connection in self.connections if not connection.is_lost]
        return self.connections[0] if self.connections else None

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self.connections = []


class Users:
    """All users of a process that were seen lately."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._users: OrderedDict[Credentials | None, User] = OrderedDict()
        self._logins = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def known(self, credentials: Credentials | None) -> UserConnection | None:
        """Return a connection of a user whom Redis has confirmed within the last second; None if it must be asked."""
        user = self._users.get(credentials)
        if user is None or user.confirmed_until <= self._engine.loop.time():
            return None
        connection = user.connection()
        if connection is not None and not connection.client.may_trust:
            self._grow(user)
        return connection

    def connections_of(self, name: bytes) -> list[UserConnection]:
        """Return a connection for each of the credentials of a user that count now."""
        now = self._engine.loop.time()
        users = [user for user in self._users.values() if user.confirmed_until > now and user.name == name]
        found = [user.connection() for user in users]
        return [connection for connection in found if connection is not None]

    async def admit(self, credentials: Credentials | None) -> UserConnection:
        """Return a connection for the user with these credentials. Raise EngineError if Redis doesn't let it in."""
        connection = self.known(credentials)
        if connection is not None:
            return connection
        user = self._users.get(credentials)
        if user is None:
            return await self._log_in(credentials)
        self._users.move_to_end(credentials)
        await self._confirm(user)
        connection = user.connection()
        return connection if connection is not None else await self._log_in(credentials)

    async def is_open(self) -> bool:
        """Return whether Redis lets everybody in without a password."""
        try:
            await self.admit(None)
        except UpstreamError as error:
            return not error.wire.startswith("NOAUTH")
        return True

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for user in self._users.values():
            user.close()
        self._users.clear()

    async def _log_in(self, credentials: Credentials | None) -> UserConnection:
        """Open the first connection of a user."""
        if self._logins >= _MOST_LOGINS:
            raise RequestRefused(503, "too many clients log in at the same time; try again later")
        self._logins += 1
        try:
            connection = await self._open(credentials)
        finally:
            self._logins -= 1
        user = self._users.get(credentials)
        if user is None:
            user = self._users[credentials] = User(credentials)
            self._forget_some()
        user.connections.append(connection)
        user.confirmed_until = self._engine.loop.time() + _SECONDS
        return connection

    async def _open(self, credentials: Credentials | None) -> UserConnection:
        connection = UserConnection(self._engine)
        try:
            await connection.ask(_log_in(credentials))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _confirm(self, user: User) -> None:
        """Have Redis confirm the credentials. Requests that come meanwhile wait for the same answer."""
        if user.confirming is None:
            user.confirming = self._engine.loop.create_task(self._ask_again(user))
        await asyncio.shield(user.confirming)

    async def _ask_again(self, user: User) -> None:
        connection = user.connection()
        try:
            if connection is None:
                return
            await connection.ask(_log_in_again(user.credentials))
            user.confirmed_until = self._engine.loop.time() + _SECONDS
        except EngineError:
            if connection is not None and not connection.is_lost:  # Redis has answered: these credentials count no more
                self._users.pop(user.credentials, None)
                user.close()
                if user.credentials is not None:
                    raise  # otherwise a new connection tells why
        finally:
            user.confirming = None

    def _grow(self, user: User) -> None:
        """Open another connection for a user who waits for Redis on all others."""
        if user.is_growing or len(user.connections) >= _MOST_CONNECTIONS:
            return
        user.is_growing = True
        task = self._engine.loop.create_task(self._add(user))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add(self, user: User) -> None:
        try:
            connection = await self._open(user.credentials)
        except EngineError:
            return  # who asks next learns why
        finally:
            user.is_growing = False
        if self._users.get(user.credentials) is user:
            user.connections.append(connection)
        else:
            connection.close()

    def _forget_some(self) -> None:
        while len(self._users) > _MOST_USERS:
            _, oldest = self._users.popitem(last=False)
            oldest.close()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _log_in(credentials: Credentials | None) -> Generator[Any, Any, None]:
    """Have Redis accept the credentials. Without any, whoever may not even PING is in as long as Redis knows it."""
    if credentials is None:
        (answer,) = yield [(b"PING",)]
        _refuse_unknown(answer)
        return
    (answer,) = yield [(b"AUTH", *credentials.words)]
    if isinstance(answer, ReplyError) and answer.text.startswith("ERR"):  # no password is set: then none is right
        raise RequestRefused(401, answer.text)
    refuse_error(answer)


def _log_in_again(credentials: Credentials | None) -> Generator[Any, Any, None]:
    """Have Redis say whether it would still accept the credentials on a new connection."""
    if credentials is not None:
        yield from _log_in(credentials)
        return
    # It serves its old connections even when its default user has got a password. One without takes any.
    login, answer = yield [(b"AUTH", DEFAULT_USER, _NOBODYS_PASSWORD), (b"PING",)]
    refuse_error(login)
    _refuse_unknown(answer)


def _refuse_unknown(answer: Any) -> None:
    """Raise Redis' answer to PING if it is an error other than that the user, whom it knows, may not send that."""
    if not (isinstance(answer, ReplyError) and answer.text.startswith("NOPERM")):
        refuse_error(answer)
