"""
What the body of a command asks for while it is carried out.

Theory of operation. A body is a generator. What it yields is done for it, and it is resumed with the outcome:

* a list of Redis commands: sent to Redis on the client's own connection; resumed with the list of their replies,
  decoded (see `protocol.frames.decode`; an error reply is a ReplyError, see `refuse_error`);
* one of the classes here: see there.

What it returns is the reply's bytes. An EngineError that it raises is the error reply. So a body is a plan (up to the
first yield) and a finish (after it). Inside MULTI the commands of the first yield are queued, and the rest runs when
EXEC's reply is there, which is why nothing may be decided before the first yield that needs Redis' answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from redisai_engine.errors import UpstreamError
from redisai_engine.execution.job import RunnableModel
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.protocol.requests import encode
from redisai_engine.protocol.tensor import Buffer
from redisai_engine.redis.store import ModelMeta

UpstreamCommand = tuple[Buffer, ...]
Plan = Generator[Any, Any, bytes]


@dataclass(frozen=True, slots=True)
class Pass:
    """Sends a command to Redis as it is; resumed with its reply's bytes."""

    request: bytes


def relay(arguments: Sequence[bytes]) -> Plan:
    """Send a command to Redis as it is, and return its reply."""
    (raw,) = yield Pass(encode(arguments))
    return bytes(raw)


@dataclass(frozen=True, slots=True)
class Permit:
    """
    Inside MULTI alone: commands that change nothing are queued, which Redis refuses at once where a right lacks.

    Resumed with None. Where Redis refuses, the command is answered so and the body goes no further: work on behalf of
    a client begins only when Redis lets it.
    """

    commands: list[UpstreamCommand]


@dataclass(frozen=True, slots=True)
class PassUntil:
    """
    Sends bytes to Redis; every reply goes to the client until one that `is_last`, whose bytes the body is resumed with.

    For commands with any number of replies, such as SUBSCRIBE.
    """

    request: bytes
    is_last: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Load:
    """Asks for the model in memory that `blob` becomes; resumed with a RunnableModel, or an EngineError is thrown."""

    meta: ModelMeta
    blob: bytes


@dataclass(frozen=True, slots=True)
class Compute:
    """Has `function` called in the load thread; resumed with its outcome, or its EngineError is thrown."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class AskPeers:
    """Asks the engine's other workers; resumed with the list of their answers, empty if there are none."""

    question: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run: arrays in the order of the model's inputs. No model: only a turn in the queue of `device`."""

    model: RunnableModel | None
    inputs: list[Any]
    device: str = "CPU"


@dataclass(frozen=True, slots=True)
class Run:
    """
    Asks for runs, all at the same time; resumed with the list of their outcomes in order.

    `deadline`: the event loop's time after which a run that hasn't begun isn't begun any more. `detached`: the body
    needs Redis no more, so later commands of the connection may go on meanwhile.
    """

    requests: list[RunRequest]
    deadline: float | None = None
    detached: bool = False


def refuse_error(*upstream_replies: object) -> None:
    """Raises UpstreamError for the first of Redis' replies that is an error."""
    for reply in upstream_replies:
        if isinstance(reply, ReplyError):
            raise UpstreamError(reply.text)
