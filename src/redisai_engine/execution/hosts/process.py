"""
One host as the engine sees it: a process with one model or script, which answers one request at a time.

`Line` is what the engine sees of anything that answers so: a `Host`, or a model's seat in a host that others share.

Invariant: `kill` may be called in any thread and never waits. Whoever waits for an answer then gets HostEnded.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, Protocol, TypeAlias

from redisai_engine.backends.base import Array, Outputs
from redisai_engine.execution.hosts.frames import ALONE, Channel, FrameError, FrameLimits, is_silent, to_error
from redisai_engine.weight import family_bytes, private_bytes

#: Answers what a host asks in the middle of a request: a message and arrays.
Reply: TypeAlias = Callable[[Any, Outputs], tuple[Any, Outputs]]

_STATUS_SECONDS = 5.0  # from the end of a host to the report of its exit status
_MOST_BYTES = 1 << 16
_LOOK_SECONDS = 0.9  # at least, between two looks at what a host computes
_MOST_UNASKED = 0.1  # of the time between two looks, in processor time, that a host may compute for nobody
_TICKS = os.sysconf("SC_CLK_TCK")  # a second
_COPIED = 12 * 2**20  # bytes of its parent's that a host changes, and so has to itself (measured: 1 to 12 MB)


class HostEnded(Exception):
    """
    The host has ended. The text says by what, as in "ended by signal 11 (SIGSEGV)".

    `by_itself` means that nothing from outside has ended it, or kept it from starting.
    """

    def __init__(self, text: str, *, by_itself: bool = True) -> None:
        super().__init__(text)
        self.by_itself = by_itself


class HostNotStarted(HostEnded):
    """There is no host, because the system has refused what one takes, such as descriptors. That is nobody's death."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(f"could not be started: {reason}", by_itself=False)


class HostSource(Protocol):
    """
    Where hosts come from: a process that forks them, or a program that is started for each.

    `limits` are those of the frames that they may send. With `ends_slowly`, a host that is killed may take a while to
    end, for which nobody waits.
    """

    ends_slowly: bool

    @property
    def limits(self) -> FrameLimits: ...

    def enter(self, user: object) -> None:
        """Keep what hosts have in common while this object exists."""

    def fork(self, channel: socket.socket, lifeline: socket.socket, file: int, *, memory: int, gpu: bool) -> int:
        """
        Start a host that has these three. Return its process's number, or 0 if it says that itself (`weigh`).

        Raise OSError if the system refuses that.
        """

    def say_missing(self, missing: Sequence[str]) -> None:
        """Say in the log what hosts aren't kept from."""


class _Look(NamedTuple):
    """When a host was looked at, its processor time until then in seconds, and how many requests it had got."""

    at: float
    computed: float
    requests: int


class Line(ABC):
    """The engine's end of a channel at whose other end one request after another is answered."""

    #: Its part of the machine's memory, its own processes' included, in bytes, when that was last measured.
    taken: int = 0

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._requests = 0

    def ask(
        self,
        message: Any,
        arrays: Sequence[Array] = (),
        *,
        seconds: float | None = None,
        reply: Reply | None = None,
    ) -> tuple[Any, Outputs]:
        """
        Send a request and return the answer. `reply` is called with each question that the host asks before.

        Raise HostEnded, TimeoutError after `seconds`, and the EngineError that the host answers with.
        """
        self._begin(message, arrays)
        return self.answer(seconds=seconds, reply=reply)

    def ask_awake(self, arrays: Sequence[Array]) -> Outputs:
        """Carry out a run that is known to be short. Both sides stay awake meanwhile. Raise the errors of `ask`."""
        self._begin(ALONE, arrays)
        self._channel.stay_awake()
        return self.answer()[1]

    def send(self, arrays: Sequence[Array], *, is_alone: bool) -> int:
        """
        Send a small request. Return the descriptor at which the answer arrives. Never wait.

        The worker of a Python model stays awake behind one that `is_alone`.
        """
        self._begin(ALONE if is_alone else None, arrays)
        return self._channel.fileno()

    def has_answer(self) -> bool:
        """Return whether `answer` would return at once. Never wait."""
        return self._channel.has_all()

    def answer(
        self,
        *,
        seconds: float | None = None,
        reply: Reply | None = None,
    ) -> tuple[Any, Outputs]:
        """Return the answer to what was sent. Raise the errors of `ask`."""
        try:
            answer, outputs = self._channel.receive(seconds)
            while reply is not None and answer is not None and "asks" in answer:
                self._channel.send(*reply(answer["asks"], outputs))
                answer, outputs = self._channel.receive(seconds)
        except TimeoutError:
            raise
        except (EOFError, OSError) as error:
            raise self._cut(error) from None
        except FrameError as error:
            raise HostEnded(f"was ended because it answered nonsense ({error})") from None
        if answer is None:
            return None, outputs
        if not isinstance(answer, dict):
            raise HostEnded("was ended because it answered nonsense (a message that is no object)")
        if "error" in answer:
            raise _told(answer["error"])
        return answer, outputs

    def is_there(self) -> bool:
        """Return whether the process hasn't ended. It must have nothing to answer."""
        return self._channel.is_silent()

    def ended(self) -> HostEnded | None:
        """Return by what the process has ended, or None if it hasn't. It must have nothing to answer."""
        return None if self.is_there() else self._end()

    def _begin(self, message: Any, arrays: Sequence[Array]) -> None:
        """Send a request."""
        self._requests += 1
        with suppress(OSError):  # the process has ended, as is found next
            self._channel.send(message, arrays)

    def _cut(self, error: Exception) -> HostEnded:  # a seat asks what it was
        """Return the error of a request during which the channel has ended, with this error."""
        return self._end()

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended, though this line has not been used since."""
        return False

    @abstractmethod
    def weigh(self, pid: int, common: int) -> None:
        """Be told by which number the kernel knows the process, and how many bytes it began with: its parent's."""

    @property
    @abstractmethod
    def memory(self) -> int:
        """The bytes that are taken now, apart from what the process has in common with its parent."""

    @abstractmethod
    def measure(self) -> None:
        """Measure `taken`, which takes milliseconds."""

    @abstractmethod
    def computes_unasked(self) -> bool:
        """Return whether the process computes for nobody. To be asked every second while this has no request."""

    @abstractmethod
    def kill(self) -> None:
        """Have the process killed."""

    @abstractmethod
    def close(self) -> None:
        """Have no more to do with it."""

    @abstractmethod
    def _end(self) -> HostEnded:
        """Return an error that says by what the process has ended."""


class Host(Line):
    """A host that `origin` starts, which loads from the open file `file` what it is asked to."""

    def __init__(self, origin: HostSource, file: int, *, memory: int, gpu: bool, awake_seconds: float = 0.0) -> None:
        """Start it. Raise HostNotStarted, and the EngineErrors of its origin."""
        ours, theirs, self._lifeline, their_lifeline = _two_pairs()
        origin.enter(self)
        super().__init__(Channel(ours, origin.limits, awake_seconds=awake_seconds))
        self._ends_slowly = origin.ends_slowly
        self._is_left = False  # to its end, which nobody waits for
        self._common = 0
        self._looked = _Look(0.0, 0.0, -1)
        self._was_unasked = False
        with theirs, their_lifeline:
            try:
                self._pid = origin.fork(theirs, their_lifeline, file, memory=memory, gpu=gpu)
            except OSError as error:
                self.close()
                raise HostNotStarted(error.strerror) from None
            except BaseException:
                self.close()
                raise

    def weigh(self, pid: int, common: int) -> None:
        self._pid, self._common = pid, common

    @property
    def memory(self) -> int:
        return _COPIED + max(0, private_bytes(self._pid) - self._common) if self._pid else 0

    def measure(self) -> None:
        self.taken = family_bytes(self._pid) if self._pid else 0

    def computes_unasked(self) -> bool:
        """
        Return whether the process has computed between the latest looks, and between them only, for nobody.

        To be asked every second while it carries out no request. Threads of frameworks may stay busy for some tenths of
        a second after a run, so what counts is a second look without a request before it.
        """
        before, now = self._looked, monotonic()
        if now - before.at < _LOOK_SECONDS:
            return False
        self._looked = _Look(now, _processor_seconds(self._pid), self._requests)
        was_unasked, self._was_unasked = self._was_unasked, before.requests == self._requests
        computed = self._looked.computed - before.computed
        return was_unasked and self._was_unasked and computed > _MOST_UNASKED * (now - before.at)

    def kill(self) -> None:
        self._is_left = self._ends_slowly
        with suppress(OSError):
            self._lifeline.shutdown(socket.SHUT_WR)
        if self._is_left:
            self._channel.cut()

    def is_there(self) -> bool:
        return super().is_there() and is_silent(self._lifeline)

    def close(self) -> None:
        """Kill the process and forget it."""
        self._lifeline.close()
        self._channel.close()

    def _end(self) -> HostEnded:
        if self._is_left:
            return HostEnded("was ended by the engine", by_itself=False)
        self._lifeline.settimeout(_STATUS_SECONDS)
        try:
            said = json.loads(self._lifeline.recv(_MOST_BYTES) or b"{}")
        except (OSError, ValueError):
            said = {}
        if "failed" in said:
            return HostNotStarted(said["failed"])
        if "status" not in said:
            return HostEnded("ended, because the process that it was forked from has ended", by_itself=False)
        status = said["status"]
        if status >= 0:
            return HostEnded(f"ended with exit code {status}")
        # Linux sends SIGKILL, too, when the machine is short of memory, which need not be this process's doing.
        return HostEnded(f"ended by signal {-status} ({_signal_name(-status)})", by_itself=-status != signal.SIGKILL)


def _two_pairs() -> tuple[socket.socket, ...]:
    """Return the four ends of two socket pairs. Raise HostNotStarted, with none of them open."""
    pair: tuple[socket.socket, ...] = ()
    try:
        pair = socket.socketpair()
        return *pair, *socket.socketpair()
    except OSError as error:
        for end in pair:
            end.close()
        raise HostNotStarted(error.strerror) from None


def _processor_seconds(pid: int) -> float:
    """Return the processor time that a process has taken, or 0 if it has ended or that can't be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _told(error: Any) -> Exception:
    """Return the error that an answer names, or HostEnded if it names none."""
    if isinstance(error, list) and len(error) == 2 and all(isinstance(text, str) for text in error):
        return to_error(*error)
    return HostEnded("was ended because it answered nonsense (an error without its text)")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
