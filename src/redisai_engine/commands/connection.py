"""
A client on a connection of its own, as the plain commands see it that change what the connection is.

Those are RESET, QUIT, CLIENT REPLY and SUBSCRIBE, for instance. A front without such commands needs `Client` alone.
"""

from __future__ import annotations

from enum import Enum

from redisai_engine.commands.client import Client, Front
from redisai_engine.commands.task import Task
from redisai_engine.service.engine import Engine


class Silence(Enum):
    """What CLIENT REPLY asked for."""

    NONE = "every command is answered"
    SKIP = "the next command is not answered"
    OFF = "no command is answered"


class Connection(Client):
    """A client whose connection has a state of its own."""

    def __init__(self, engine: Engine, front: Front) -> None:
        super().__init__(engine, front)
        self.silence = Silence.NONE
        self.task: Task | None = None  # the command that later ones wait for
        self.is_closing = False  # no more requests are taken

    @property
    def streams(self) -> set[str]:
        """What comes without being asked for: "MESSAGES" in RESP2, "MONITOR"."""
        return self.upstream.streams

    def end_silence(self) -> None:
        """Send replies again, that of the command being carried out included."""
        self.silence = Silence.NONE
        if self.task is not None:
            self.task.silent = False

    def reset(self) -> None:
        """Put everything back to how a new connection is, after RESET."""
        self.protocol = 2
        self.database = 0
        self.transaction = None
        self.streams.clear()
        if self.silence is Silence.OFF:  # Redis sends RESET's own reply then, but not behind CLIENT REPLY SKIP
            self.end_silence()
        self.forget_rights()

    def close(self) -> None:
        """Take no more requests, and close when those that have begun are answered."""
        self.is_closing = True
        self.touch()
