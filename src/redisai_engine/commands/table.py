"""
The tables of the commands that the engine handles itself, one row per command.

There are three: RedisAI's commands; plain commands that Redis answers but whose replies RedisAI changes; and plain
commands that change the connection's state. All other commands are relayed unchanged.

Invariant: a body runs only with a number of arguments that its row allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from redisai_engine.commands import refusals
from redisai_engine.commands.client import Client
from redisai_engine.commands.connection import ConnectedClient
from redisai_engine.commands.steps import Plan
from redisai_engine.errors import CommandError
from redisai_engine.protocol import texts

Of_contra = TypeVar("Of_contra", bound=Client, contravariant=True)

Body = Callable[[Of_contra, Sequence[bytes]], Plan]
FindKeys = Callable[[Sequence[bytes]], list[bytes]]
Concerns = Callable[[Sequence[bytes]], bool]


@dataclass(frozen=True, slots=True)
class Keys:
    """The positions of a command's keys: first, last and the step between, as COMMAND INFO reports them."""

    first: int
    last: int | None = None
    step: int = 1
    find: FindKeys | None = None  # for keys without fixed positions; the other fields then are what RedisAI reports

    def of(self, arguments: Sequence[bytes]) -> list[bytes]:
        """Return the keys that a request names, as COMMAND GETKEYS reports them."""
        if self.find is not None:
            return self.find(arguments)
        last = self.first if self.last is None else self.last
        return list(arguments[self.first : last + 1 : self.step]) if self.first else []


NO_KEYS = Keys(0, 0, 0)
READ = ("readonly",)
WRITE = ("write", "denyoom")
DELETE = ("write",)


class InTransaction(Enum):
    """How a command behaves between MULTI and EXEC."""

    QUEUE = "its plan is queued, its finish runs after EXEC"
    REFUSE = "EXEC's reply has RedisAI's error in its place"
    NOW = "it runs at once, as EXEC does"


@dataclass(frozen=True, slots=True)
class Command(Generic[Of_contra]):
    """One row. `arity` is the least and the greatest number of words, name included; None means no maximum."""

    name: str
    arity: tuple[int, int | None]
    arity_text: str
    flags: tuple[str, ...]
    keys: Keys
    summary: str
    usage: str
    body: Body[Of_contra]
    single_step: bool | Concerns  # later commands of the connection may be sent before this one's reply arrives
    in_transaction: InTransaction
    waits: bool  # starts only when all earlier commands of the connection are answered
    concerns: Concerns | None  # of a plain command: whether a request needs the body; others are relayed
    made_of: tuple[str, ...]  # of an AI command: the plain commands it consists of, whose rights it needs
    in_redisai: bool  # whether RedisAI has it, so that it is listed among the module's commands

    def plan(self, client: Of_contra, arguments: Sequence[bytes]) -> Plan:
        """Return what the body does for a request. Raise CommandError for a wrong number of words."""
        least, most = self.arity
        if len(arguments) < least or (most is not None and len(arguments) > most):
            raise CommandError(self.arity_text)
        return self.body(client, arguments)


COMMANDS: dict[bytes, Command[Client]] = {}
PLAIN_COMMANDS: dict[bytes, Command[Client]] = {}
CONNECTION_COMMANDS: dict[bytes, Command[ConnectedClient]] = {}


def command(
    name: str,
    *,
    arity: tuple[int, int | None],
    flags: tuple[str, ...],
    keys: Keys,
    summary: str,
    arity_text: str | None = None,
    single_step: bool | Concerns = False,
    in_transaction: InTransaction = InTransaction.QUEUE,
    waits: bool = False,
    concerns: Concerns | None = None,
    made_of: tuple[str, ...] = (),
    in_redisai: bool = True,
    usage: str = "",
) -> Callable[[Body[Client]], Body[Client]]:
    """
    Register the decorated body.

    Without `usage`, the first paragraph of its docstring is what the documentation shows. Compiled functions have none.
    """

    def enter(body: Body[Client]) -> Body[Client]:
        table = COMMANDS if name.startswith("AI.") else PLAIN_COMMANDS
        if table is COMMANDS:
            refusals.enter(name, flags=flags, made_of=made_of, first_key=keys.first, movable_keys=bool(keys.find))
        table[name.encode()] = Command(
            name,
            arity,
            arity_text or texts.ARITY % name.lower(),
            flags,
            keys,
            summary,
            usage or _usage(body),
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


def connection_command(
    name: str,
    *,
    single_step: bool = False,
    in_transaction: InTransaction = InTransaction.QUEUE,
    waits: bool = False,
    concerns: Concerns | None = None,
) -> Callable[[Body[ConnectedClient]], Body[ConnectedClient]]:
    """Register the decorated body of a command that changes the connection's state. Redis checks its arguments."""

    def enter(body: Body[ConnectedClient]) -> Body[ConnectedClient]:
        CONNECTION_COMMANDS[name.encode()] = Command(
            name,
            (1, None),
            texts.ARITY % name.lower(),
            (),
            NO_KEYS,
            "",
            _usage(body),
            body,
            single_step,
            in_transaction,
            waits,
            concerns,
            (),
            False,  # noqa: FBT003  # RedisAI has none of them
        )
        return body

    return enter


def _usage(body: Callable[..., Plan]) -> str:
    return " ".join((body.__doc__ or "").partition("\n\n")[0].split())
