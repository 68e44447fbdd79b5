"""
A client with a connection of its own, as seen by the plain commands that change the connection's state.

Examples are RESET, QUIT, CLIENT REPLY and SUBSCRIBE. A front without such commands needs `Client` only.
"""

from __future__ import annotations

from enum import Enum

from redisai_engine.commands.client import DEFAULT_USER, Client, Front
from redisai_engine.commands.task import ShortWay, Task
from redisai_engine.protocol.requests import Limits
from redisai_engine.service.engine import Engine


class Silence(Enum):
    """The reply mode that CLIENT REPLY has set."""

    NONE = "every command is answered"
    SKIP = "the next command is not answered"
    OFF = "no command is answered"


class ConnectedClient(Client):
    """A client whose connection has state of its own."""

    def __init__(self, engine: Engine, front: Front) -> None:
        super().__init__(engine, front)
        self.limits = Limits(engine.settings.request_limit)
        self.may_share = True
        self.silence = Silence.NONE
        self.task: Task | ShortWay | None = None  # the running command, which later ones wait for
        self.is_closing = False  # no more requests are taken
        self._logins = 0  # that were tried
        self._shared_before = False  # it might share before its first login

    @property
    def streams(self) -> set[str]:
        """The streams that the client asked Redis for: "MESSAGES" (subscriptions in RESP2) and "MONITOR"."""
        return self.upstream.streams

    @property
    def shows_login(self) -> bool:
        """Whether the connection is in a state that Redis allows only to clients that have logged in."""
        upstream = self.opened_upstream
        streams = upstream is not None and bool(upstream.streams)
        return self.in_transaction or streams or self.silence is not Silence.NONE

    def begins_login(self) -> None:
        """
        Share nothing until Redis has answered a login, and nothing more after a second one, or one inside MULTI.

        Other commands wait for the answer, but inside MULTI they don't, and may leave a state.
        """
        self._shared_before = self.may_share and not self.in_transaction
        self._logins += 1
        self.may_share = False
        self.end_login()

    def logged_in(self, user: bytes, password: bytes) -> None:
        """Take note that Redis has let the client in with these."""
        self.user = user
        if self._logins == 1 and self._shared_before and not self.lost:
            self.login = self.engine.logins.enter(user, password)
            self.may_share = self.login is not None

    def end_silence(self) -> None:
        """Send replies again, the reply of the running command included."""
        self.silence = Silence.NONE
        if self.task is not None:
            self.task.silent = False

    def reset(self) -> None:
        """Return everything to the state of a new connection, after RESET."""
        self.protocol = 2
        self.database = 0
        self.user = DEFAULT_USER
        self.transaction = None
        self.streams.clear()
        self.limits.narrow()
        if self.silence is Silence.OFF:  # then Redis does send RESET's own reply; after CLIENT REPLY SKIP it doesn't
            self.end_silence()
        self.forget_rights()
        self.end_login()

    def close(self) -> None:
        """Take no more requests, and close once those that have begun are answered."""
        self.is_closing = True
        self.touch()
