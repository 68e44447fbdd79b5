"""
The steps that a command's body may yield.

Theory of operation. A body is a generator. Each value that it yields is a step to carry out, and the body is resumed
with the step's outcome:

* a list of Redis commands: they are sent on the client's own connection, and the body is resumed with the list of their
  decoded replies (see `protocol.frames.decode`; an error reply is a ReplyError, see `refuse_error`);
* an instance of one of the classes below: see its docstring (`Limited` is such a list with a limit).

The value that a body returns is the reply. An EngineError that it raises becomes the error reply. So a body has
two halves: a plan (up to the first yield) and a finish (after it). Inside MULTI the commands of the first yield are
queued, and the finish runs once EXEC's reply has arrived. That is why nothing that depends on Redis' answer may be
decided before the first yield.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redisai_engine.errors import EngineError, UpstreamError
from redisai_engine.execution.job import Job, RunnableModel
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.protocol.replies import Reply
from redisai_engine.protocol.requests import encode
from redisai_engine.protocol.tensor import Buffer
from redisai_engine.redis.store import ModelInfo
from redisai_engine.service.loading import Tried

UpstreamCommand = tuple[Buffer, ...]
Plan = Generator[Any, Any, Reply]
Relay = Generator[Any, Any, bytes]  # a plan whose reply is small, or Redis' own


@dataclass(frozen=True, slots=True)
class Pass:
    """A command sent to Redis unchanged. The body is resumed with a list of one element, the bytes of its reply."""

    request: bytes


def relay(arguments: Sequence[bytes]) -> Relay:
    """Relay a command unchanged and return Redis' reply."""
    (raw,) = yield Pass(encode(arguments))
    return bytes(raw)


def fail(error: EngineError) -> Plan:
    """Raise the error: the body of a command whose arguments already are wrong."""
    yield from ()
    raise error


class Limited(list[UpstreamCommand]):
    """
    Commands whose replies may have at most `limit` bytes each. A larger one is read as a ReplyError, and not kept.

    Inside MULTI there is no limit: EXEC has one reply for all commands.
    """

    def __init__(self, commands: Iterable[UpstreamCommand], limit: int) -> None:
        super().__init__(commands)
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Permit:
    """
    Commands without effect, queued inside MULTI because Redis refuses them at once if the client lacks a right.

    Only for use inside MULTI. The body is resumed with None. If Redis refuses, the client gets that error and the body
    goes no further: work on behalf of a client begins only once Redis allows it.
    """

    commands: list[UpstreamCommand]


@dataclass(frozen=True, slots=True)
class PassUntil:
    """
    Bytes sent to Redis whose replies go to the client, up to the one that `is_last`; the body is resumed with its
    bytes.

    For commands with any number of replies, such as SUBSCRIBE.
    """

    request: bytes
    is_last: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Load:
    """
    A model to load from `blob`, which was read from a key or will be stored there (`place`: its database and the key).

    The body is resumed with a RunnableModel, or an EngineError is thrown into it. `for_run`: a run waits for it, so it
    isn't loaded if something must be built for it first.
    """

    place: tuple[int, bytes]
    meta: ModelInfo
    blob: bytes
    for_run: bool = False


@dataclass(frozen=True, slots=True)
class TryOut:
    """
    A model to try out before it is loaded.

    The body is resumed with what is then known of it (None if models of its kind aren't tried out), or an EngineError
    is thrown into it.
    """

    meta: ModelInfo
    blob: bytes


@dataclass(frozen=True, slots=True)
class LoadAndAsk:
    """
    A model to load that has been tried out, and commands that are sent meanwhile.

    The body is resumed with a pair, when both have ended: the model or its EngineError, and the list of replies.
    """

    load: Load
    tried: Tried
    commands: Limited


@dataclass(frozen=True, slots=True)
class Compute:
    """A function to call in the load thread. The body is resumed with its outcome, or its EngineError is thrown."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Encode:
    """A function on large tensors to call in the thread for that; otherwise like Compute."""

    function: Callable[[], Any]


@dataclass(slots=True)  # not frozen, which takes longer to make
class Read:
    """
    Redis commands, perhaps none, whose replies may take at most `most` bytes together.

    The body is resumed with the list of replies. Those that don't fit are the error `refusal`, and are dropped while
    they arrive.
    """

    commands: list[UpstreamCommand]
    most: int
    refusal: str


@dataclass(frozen=True, slots=True)
class AskPeers:
    """A question to the other worker processes. The body is resumed with the list of their answers, if any."""

    question: dict[str, Any]


@dataclass(slots=True)
class RunRequest:
    """
    One run: the model and its input arrays, in the order of the model's inputs.

    Without a model it only takes part in the turn. `front` is what metrics count it under, if not its client's.
    """

    model: RunnableModel | None
    inputs: list[Any]
    front: int | None = None


@dataclass(slots=True)
class Run:
    """
    Runs to carry out at the same time; the body is resumed with the list of their outcomes, in the same order.

    `deadline` is the event loop's time after which a run that hasn't started yet is not started any more. `detached`
    means that the body no longer needs Redis, so later commands of the connection may proceed. The job of a single
    request is put into `jobs`, for a body that wants to know when its run began.
    """

    requests: list[RunRequest]
    deadline: float | None = None
    detached: bool = False
    jobs: list[Job] | None = None


def refuse_error(*upstream_replies: object) -> None:
    """Raise UpstreamError for the first of these replies that is an error."""
    for reply in upstream_replies:
        if isinstance(reply, ReplyError):
            raise UpstreamError(reply.text)
