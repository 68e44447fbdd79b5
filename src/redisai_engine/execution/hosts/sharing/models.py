"""
Models that share hosts, as the rest of the engine knows them.

Theory of operation. A model is first loaded, and run once on made-up inputs, in a host of its own. If it is small and
does nothing bad there, it gets a seat in a shared host instead. A run that ends with the shared host is repeated, so
that clients don't notice what others' models do. Whose doing it was that the host has ended can't always be told, so
each model that may have done it has hosts of its own from then on, where a death is its own (see `hosts/models.py`).

Invariant: a model ends at most one shared host, except for what the event loop's watch stops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redisai_engine.backends.base import Array, Outputs
from redisai_engine.errors import EngineError, HostOutOfMemory, ModelLoadError, ModelRunError
from redisai_engine.execution.hosts.frames import TRIAL
from redisai_engine.execution.hosts.models import FACTOR, HostedBackend, HostLimits, Hosts, StopHost, stopped
from redisai_engine.execution.hosts.parent import Parent
from redisai_engine.execution.hosts.process import HostEnded, Line, Reply
from redisai_engine.execution.hosts.sharing.seats import MOST_BLOB, MOST_MEMORY, Seat, SeatLost, SharedHosts, room_for

_MOST_LOSSES = 1  # of seats that one run survives in shared hosts; the next attempt takes place in a host of its own


class SharingBackend(HostedBackend):
    """A backend whose small models share hosts."""

    def __init__(self, parent: Parent, host_limits: HostLimits) -> None:
        super().__init__(parent, host_limits)
        self._shared = SharedHosts(parent, room_for(host_limits.memory, FACTOR), host_limits.load_seconds)

    def _hosts(self, about: dict[str, Any], blob: bytes) -> Hosts:
        if len(blob) > MOST_BLOB:
            return super()._hosts(about, blob)
        return SharingHosts(self._parent, self._limits, about, blob, self._shared)


class _Interrupted(ModelRunError):
    """The shared host in which the run took place has ended."""


class SharingHosts(Hosts):
    """The seats of one model, or its own hosts."""

    def __init__(
        self, parent: Parent, host_limits: HostLimits, about: dict[str, Any], blob: bytes, shared: SharedHosts
    ) -> None:
        super().__init__(parent, host_limits, about, blob)
        self._shared = shared
        self._shares = False

    def load(self) -> dict[str, Any]:
        said = super().load()
        own = self._free.pop()
        if not self._passes(own):
            self._end_one(own)
            return super().load()
        self._free.append(own)
        if own.memory <= MOST_MEMORY and not self._is_on_gpu:
            self._move(own)
        return said

    def run(
        self,
        message: Any,
        arrays: Sequence[Array],
        stop: StopHost,
        reply: Reply | None = None,
    ) -> Outputs:
        losses = 0
        while True:
            shares = self._shares
            try:
                return super().run(message, arrays, stop, reply)
            except (_Interrupted, HostOutOfMemory) as error:
                is_lost = isinstance(error, _Interrupted)
                if not is_lost and not shares:
                    raise
                losses += 1
                if not is_lost or losses > _MOST_LOSSES:
                    self._leave()
            if stop.in_loop:
                stop.terminate = True  # the executor then leaves the run to a thread
                raise stopped()

    def death(self, error: HostEnded, stop: StopHost) -> ModelRunError:
        if isinstance(error, SeatLost) and not stop.terminate:
            if not error.is_innocent:
                self._leave()
            return _Interrupted(error.args[0])
        if not stop.in_loop:
            self._leave()
        return super().death(error, stop)

    @property
    def has_free(self) -> bool:
        return any(not host.is_gone for host in list(self._free))

    def _passes(self, own: Line) -> bool:
        """Return whether the model doesn't end its host in a run on made-up inputs."""
        try:
            own.ask(TRIAL, seconds=self._limits.load_seconds)
        except (HostEnded, TimeoutError):
            return False
        except EngineError:  # an error is an answer: other inputs may suit the model better
            pass
        return True

    def _move(self, own: Line) -> None:
        """Take a seat and end the model's own host, unless there is something wrong with shared hosts."""
        self._shares = True
        with suppress(HostEnded, TimeoutError, ModelLoadError):
            seat, _ = self._start(StopHost())
            self._free = [seat]
            self._end_one(own)

    def _leave(self) -> None:
        """Share no host any more."""
        with self._changed:
            self._shares = False
            self._drop(lambda host: isinstance(host, Seat))

    def _drop(self, is_dropped: Callable[[Line], bool]) -> None:
        for host in [free for free in self._free if is_dropped(free)]:
            self._free.remove(host)
            self._end_one(host)

    def _take(self, stop: StopHost) -> Line:
        with self._changed:
            self._drop(lambda host: host.is_gone)
        return super()._take(stop)

    def _give_back(self, host: Line, *, ended: bool) -> None:
        super()._give_back(host, ended=ended or host.is_gone or (isinstance(host, Seat) and not self._shares))

    def _end_one(self, host: Line) -> None:
        if isinstance(host, Seat) and host.is_among_restless:
            self._shares = False
        super()._end_one(host)

    def _new_host(self) -> Line:
        if not self._shares:
            return super()._new_host()
        return self._shared.seat(self._file.fileno(), self._limits.awake_seconds)

    def _start(self, stop: StopHost) -> tuple[Line, dict[str, Any]]:
        if self._shares:
            with suppress(HostEnded, TimeoutError, EngineError):
                return super()._start(stop)
            if stop.terminate:
                raise stopped()
            self._leave()
        return super()._start(stop)

    def _load_error(self, error: BaseException, stop: StopHost) -> BaseException:
        if isinstance(error, SeatLost):  # no death of the model's own
            return ModelLoadError(f"ERR the model can't be loaded: the process {error}")
        return super()._load_error(error, stop)
