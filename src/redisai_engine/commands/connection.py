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

    def close(self) -> None:
        """Take no more requests, and close once those that have begun are answered."""
        self.is_closing = True
        self.touch()
