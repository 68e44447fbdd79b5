"""
Hosts that models share, and the models' seats there, as the engine sees them.

Theory of operation. Each seat has a channel of its own, at whose other end a thread of the host answers. So what others
do costs a run nothing but processor time. The host's own channel only passes new seats on. When the host ends, all its
seats are lost; each finds that out by itself.

Invariant: a host that nobody has a seat in is ended.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from redisai_engine.backends.base import Array, Outputs
from redisai_engine.errors import EngineError, HostOutOfMemory
from redisai_engine.execution.hosts.frames import SEATS, Channel, NotTaken
from redisai_engine.execution.hosts.parent import Parent
from redisai_engine.execution.hosts.process import Host, HostEnded, HostNotStarted, Line, Reply
from redisai_engine.weight import most_reserved

_log = logging.getLogger(__name__)

_MOST_SEATS = 32  # in one host: each takes a descriptor, and a host may open few
_SHORT = 0.5  # of its room: the system counts less than what a process has reserved
_STACK_BYTES = 8 * 2**20  # that each thread reserves

#: How large a model may be that takes a seat: its blob, and what a host of its own takes for it, in bytes.
MOST_BLOB, MOST_MEMORY = 4 * 2**20, 64 * 2**20


class SeatLost(HostEnded):
    """The process in which the seat was has ended. `is_innocent`: not by what was asked of this seat."""

    def __init__(self, *, is_innocent: bool) -> None:
        super().__init__("that it shared with other models has ended", by_itself=not is_innocent)
        self.is_innocent = is_innocent


class SharedHost(Host):
    """A host with seats. `room` is the memory that it may take for all, in bytes; 0: any."""

    def __init__(self, parent: Parent, room: int, seconds: float) -> None:
        """Start it, which may take so many seconds. Raise HostEnded, TimeoutError and ModelLoadError."""
        self.seats: set[Seat] = set()
        self.is_open = True
        self.is_restless = False
        self._is_killed = False
        self._backend = parent.backend
        self._closing = threading.Lock()
        with open(os.devnull, "rb") as nothing:
            super().__init__(parent, nothing.fileno(), memory=room, gpu=False)
        try:
            about, _ = self.ask(SEATS, seconds=seconds)
        except BaseException:
            self.close()
            raise
        self.weigh(*about["weight"])
        self._most = room and most_reserved(self._pid) + int(room * _SHORT)
        parent.say_missing(about["missing"])

    @property
    def has_room(self) -> bool:
        return self.is_open and len(self.seats) < _MOST_SEATS

    def admit(self, channel: socket.socket, file: int) -> None:
        """Have the host serve a seat. Raise OSError if it has ended."""
        self._channel.send_descriptors(channel.fileno(), file)

    def was_short_of_memory(self) -> bool:
        """Return whether all models together have ever come near what they may take."""
        return 0 < self._most < most_reserved(self._pid)

    def computes_unasked(self) -> bool:
        seats = list(self.seats)
        if any(seat.is_busy for seat in seats):
            return False
        self._requests = sum(seat.requests for seat in seats)
        self.is_restless = self.is_restless or super().computes_unasked()
        return self.is_restless

    def kill(self) -> None:
        if self.is_open:  # otherwise it has ended by itself, which is what counts
            self.is_open, self._is_killed = False, True
            super().kill()

    def lost(self) -> SeatLost:
        """Return the error of a seat whose channel has ended."""
        with self._closing:
            if self.is_open:
                self.is_open = False
                super().kill()  # in case that only the seat's thread has ended
                _log.warning("a process that %d %s models share %s", len(self.seats), self._backend, self._end())
        return SeatLost(is_innocent=self._is_killed)


class Seat(Line):
    """A model's seat. The model is loaded from the file with which it is taken. `leave` is told when it is given up."""

    def __init__(self, host: SharedHost, awake_seconds: float, leave: Callable[[SharedHost, Seat], None]) -> None:
        ours, self._theirs = socket.socketpair()
        super().__init__(Channel(ours, awake_seconds=awake_seconds))
        self.is_busy = False  # with a request whose answer hasn't arrived
        self._host = host
        self._leave = leave
        host.seats.add(self)

    def take(self, file: int) -> None:
        """Have the host serve it. Raise SeatLost."""
        try:
            with self._theirs:
                self._host.admit(self._theirs, file)
        except OSError as error:
            self.close()
            raise self._cut(error) from None

    @property
    def requests(self) -> int:
        """How many requests it has got."""
        return self._requests

    @property
    def is_gone(self) -> bool:
        return not self._host.is_open

    @property
    def is_among_restless(self) -> bool:
        """Whether the host was killed because it, and so perhaps this seat's model, computed for nobody."""
        return self._host.is_restless

    def answer(
        self,
        *,
        seconds: float | None = None,
        reply: Reply | None = None,
    ) -> tuple[Any, Outputs]:
        try:
            answer = super().answer(seconds=seconds, reply=reply)
        except EngineError as error:
            self.is_busy = False
            # A framework's own error of that kind can't be told from others, and it may be others' doing.
            raise HostOutOfMemory if self._host.was_short_of_memory() else error from None
        self.is_busy = False
        return answer

    def weigh(self, pid: int, common: int) -> None:
        """Take no note of what a process that has many seats says of itself: it has said that before."""

    @property
    def memory(self) -> int:
        return self._host.memory // max(1, len(self._host.seats))

    def measure(self) -> None:
        self._host.measure()
        self.taken = self._host.taken // max(1, len(self._host.seats))

    def computes_unasked(self) -> bool:
        """Return whether the host does, and then kill it. Nobody can tell which of the models makes it compute."""
        if self._host.computes_unasked():
            self.kill()
        return self._host.is_restless

    def kill(self) -> None:
        self._host.kill()

    def close(self) -> None:
        """Give the seat up. A request that goes on is ended, which takes the host with it."""
        if self.is_busy:
            self.kill()
        self._channel.close()
        self._leave(self._host, self)

    def _begin(self, message: Any, arrays: Sequence[Array]) -> None:
        self._requests += 1
        self.is_busy = True
        try:
            self._channel.send(message, arrays)
        except OSError as error:
            raise self._cut(error) from None

    def _cut(self, error: Exception) -> HostEnded:
        lost = self._host.lost()
        return SeatLost(is_innocent=lost.is_innocent or isinstance(error, (NotTaken, BrokenPipeError)))

    def _end(self) -> HostEnded:
        return self._host.lost()


class SharedHosts:
    """The hosts that the models of one backend share. Its methods may be called in any thread."""

    def __init__(self, parent: Parent, room: int, load_seconds: float) -> None:
        self._parent = parent
        self._room = room
        self._load_seconds = load_seconds
        self._hosts: list[SharedHost] = []
        self._choosing = threading.Lock()  # held during a start, so that not each of several models starts a host
        # Never held for long. Reentrant, because the garbage collector may give up seats at any time.
        self._lock = threading.RLock()

    def seat(self, file: int, awake_seconds: float) -> Seat:
        """Return a seat in a host, which is started if none has room. Raise HostEnded, TimeoutError, ModelLoadError."""
        try:
            with self._choosing:
                seat = self._free_seat(awake_seconds) or self._first_seat(awake_seconds)
        except OSError as error:
            raise HostNotStarted(error.strerror) from None
        seat.take(file)
        return seat

    def _free_seat(self, awake_seconds: float) -> Seat | None:
        with self._lock:
            host = next((host for host in self._hosts if host.has_room), None)
            return None if host is None else Seat(host, awake_seconds, self._leave)

    def _first_seat(self, awake_seconds: float) -> Seat:
        host = SharedHost(self._parent, self._room, self._load_seconds)
        try:
            seat = Seat(host, awake_seconds, self._leave)
        except BaseException:
            host.close()
            raise
        with self._lock:
            self._hosts.append(host)
        return seat

    def _leave(self, host: SharedHost, seat: Seat) -> None:
        with self._lock:
            host.seats.discard(seat)
            if not host.seats and host in self._hosts:
                self._hosts.remove(host)
                host.close()


def room_for(memory: int, factor: int) -> int:
    """Return the bytes that a shared host may take, if one with a blob may take `memory` and `factor` times that."""
    return memory and memory + _MOST_SEATS * (factor * MOST_BLOB + _STACK_BYTES)
