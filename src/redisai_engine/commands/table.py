"""
The table of the commands that the engine answers, and what a command's body is.

Theory of operation. A body is a generator. What it yields is done for it, and it is resumed with the outcome:

* a list of Redis commands: sent to Redis on the client's own connection; resumed with the list of their replies,
  decoded (see `protocol.frames.decode`; an error reply is a ReplyError, see `refuse_error`);
* `Pass`: a command goes to Redis as it is; resumed with its reply's bytes;
* `Load`: a model's bytes become a model in memory; resumed with it;
* `Compute`: a function that takes long is called in a thread; resumed with what it gives;
* `Run`: models run on tensors; resumed with their outcomes.

What it returns is the reply's bytes. An EngineError that it raises is the error reply. So a body is a plan (up to the
first yield) and a finish (after it). Inside MULTI the commands of the first yield are queued, and the rest runs when
EXEC's reply is there, which is why nothing may be decided before the first yield that needs Redis' answer.

Invariant: arity is checked before a body runs, by the table.

The table has a second part, of plain commands that the engine must see although Redis answers them (`plain.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from redisai_engine.errors import UpstreamError
from redisai_engine.protocol import texts
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.protocol.tensor import Buffer

if TYPE_CHECKING:
    from redisai_engine.commands.one_step import OneStep
    from redisai_engine.commands.rights import Rights
    from redisai_engine.commands.transaction import Transaction
    from redisai_engine.execution.job import RunnableModel
    from redisai_engine.redis.store import ModelMeta
    from redisai_engine.service.engine import Engine

UpstreamCommand = tuple[Buffer, ...]
Plan = Generator[Any, Any, bytes]


class Context(Protocol):
    """What a body may know of the connection that it answers on, and what a plain command may change of it."""

    engine: Engine
    protocol: int  # 2 or 3
    database: int
    rights: Rights
    transaction: Transaction | None
    silence: Silence
    one_step: OneStep

    @property
    def streams(self) -> set[str]: ...  # replies come that no command asked for: "MESSAGES" in RESP2, "MONITOR"

    @property
    def in_transaction(self) -> bool: ...

    @property
    def may_trust(self) -> bool: ...

    def forget_rights(self) -> None: ...

    def reset(self) -> None: ...

    def carry_out(self, body: Plan, done: Callable[[bytes], None]) -> None: ...

    def close(self) -> None: ...

    def end_silence(self) -> None: ...


class Silence(Enum):
    """What CLIENT REPLY asked for."""

    NONE = "every command is answered"
    SKIP = "the next command is not answered"
    OFF = "no command is answered"


Body = Callable[[Context, Sequence[bytes]], Plan]
FindKeys = Callable[[Sequence[bytes]], list[bytes]]


@dataclass(frozen=True, slots=True)
class Keys:
    """Where a command's keys stand: first and last position and the step between, as COMMAND INFO tells them."""

    first: int
    last: int | None = None
    step: int = 1
    find: FindKeys | None = None  # for keys that stand nowhere fixed; the other fields are what RedisAI says of those

    def of(self, arguments: Sequence[bytes]) -> list[bytes]:
        """Gives the keys that a request names, as COMMAND GETKEYS tells them."""
        if self.find is not None:
            return self.find(arguments)
        last = self.first if self.last is None else self.last
        return list(arguments[self.first : last + 1 : self.step]) if self.first else []


NO_KEYS = Keys(0, 0, 0)
READ = ("readonly",)
WRITE = ("write", "denyoom")
DELETE = ("write",)


class InTransaction(Enum):
    """What becomes of a command between MULTI and EXEC."""

    QUEUE = "its plan is queued, its finish runs after EXEC"
    REFUSE = "EXEC's reply has RedisAI's error in its place"
    NOW = "it runs at once, as EXEC does"


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table. `arity` counts the name; no maximum: None."""

    name: str
    arity: tuple[int, int | None]
    arity_text: str
    flags: tuple[str, ...]
    keys: Keys
    summary: str
    usage: str
    body: Body
    single_step: bool  # later commands of the connection may be sent before this one's reply is there
    in_transaction: InTransaction
    waits: bool  # begins only when all earlier commands of the connection have their replies
    concerns: Callable[[Sequence[bytes]], bool] | None  # of a plain command: a request that isn't just relayed
    made_of: tuple[str, ...]  # of an AI command: the plain commands that it takes, whose rights are its own
    in_redisai: bool  # RedisAI has it too, so it is listed among its module's commands

    def fits(self, count: int) -> bool:
        least, most = self.arity
        return count >= least and (most is None or count <= most)


COMMANDS: dict[bytes, Command] = {}
PLAIN_COMMANDS: dict[bytes, Command] = {}


def command(
    name: str,
    *,
    arity: tuple[int, int | None],
    flags: tuple[str, ...],
    keys: Keys,
    summary: str,
    arity_text: str | None = None,
    single_step: bool = False,
    in_transaction: InTransaction = InTransaction.QUEUE,
    waits: bool = False,
    concerns: Callable[[Sequence[bytes]], bool] | None = None,
    made_of: tuple[str, ...] = (),
    in_redisai: bool = True,
) -> Callable[[Body], Body]:
    """Enters a body in the table; the first paragraph of its docstring is the usage that the documentation shows."""

    def enter(body: Body) -> Body:
        text = arity_text or texts.ARITY % name.lower()
        usage = " ".join((body.__doc__ or "").partition("\n\n")[0].split())
        table = COMMANDS if name.startswith("AI.") else PLAIN_COMMANDS
        table[name.encode()] = Command(
            name,
            arity,
            text,
            flags,
            keys,
            summary,
            usage,
            body,
            single_step,
            in_transaction,
            waits,
            concerns,
            made_of,
            in_redisai,
        )
        return body

    return enter


@dataclass(frozen=True, slots=True)
class Pass:
    """Sends a command to Redis as it is; resumed with its reply's bytes."""

    request: bytes


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
