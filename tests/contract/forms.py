"""
Forms of AI commands: what remains of a command when its data is replaced by placeholders.

Theory of operation. A command is cut into *sections*: its head (name, key and other fixed arguments), and one for each
keyword with its arguments. `AI.MODELSTORE m ONNX CPU TAG v BLOB ...` has the sections `AI.MODELSTORE key ONNX CPU`,
`TAG text` and `BLOB one`. A command's form is acceptable if each of its sections, and each step from one section's
keyword to the next, occurred in a command of that name that a real RedisAI 1.2.7 carried out.

A DAG is first cut at `|>`, and its head and each operation are judged separately. An operation must have been carried
out inside a DAG. Its sections may be known from the command on its own, unless RedisAI was seen to refuse a DAG with
such a section.

Invariant: this module doesn't know what RedisAI accepts. Only the recorded conversations do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import pairwise
from typing import Any

from compat.transcripts.replay import argument_bytes

Command = Sequence[bytes]
Form = tuple[str, ...]  # sections
DAG_COMMANDS = ("AI.DAGEXECUTE", "AI.DAGEXECUTE_RO")
END = "(end)"

# Errors about the data. They prove that RedisAI has understood the form.
OF_DATA = ({"error": "ERR data length does not match tensor shape and type"},)


class Follows(Enum):
    """What may follow a keyword."""

    NOTHING = auto()
    TEXT = auto()  # any single argument
    NUMBER = auto()
    COUNTED = auto()  # a number, followed by that many names
    REST = auto()  # everything to the end


KEYWORDS = {
    "META": Follows.NOTHING,
    "RESETSTAT": Follows.NOTHING,
    "TAG": Follows.TEXT,
    "ROUTING": Follows.TEXT,
    "BATCHSIZE": Follows.NUMBER,
    "MINBATCHSIZE": Follows.NUMBER,
    "MINBATCHTIMEOUT": Follows.NUMBER,
    "TIMEOUT": Follows.NUMBER,
    "INPUTS": Follows.COUNTED,
    "OUTPUTS": Follows.COUNTED,
    "LOAD": Follows.COUNTED,
    "PERSIST": Follows.COUNTED,
    "BLOB": Follows.REST,
    "VALUES": Follows.REST,
}

# The arguments after the name that belong to the head, as data or as words that matter. AI.TENSORSET's shape follows.
HEADS = {
    "AI.CONFIG": ("word", "word"),
    "AI.MODELSTORE": ("data", "word", "word"),
    "AI.MODELGET": ("data",),
    "AI.MODELDEL": ("data",),
    "AI._MODELSCAN": (),
    "AI.MODELEXECUTE": ("data",),
    "AI.TENSORSET": ("data", "word"),
    "AI.TENSORGET": ("data",),
    "AI.DAGEXECUTE": (),
    "AI.DAGEXECUTE_RO": (),
    "AI.INFO": ("data",),
}


def name_of(command: Command) -> str:
    return command[0].decode("utf-8", "backslashreplace").upper()


def parts_of(command: Command) -> list[Command]:
    """Return the command itself, or the head and the operations of a DAG."""
    if name_of(command) not in DAG_COMMANDS:
        return [command]
    parts: list[list[bytes]] = [[]]
    for argument in command:
        if argument == b"|>":
            parts.append([])
        else:
            parts[-1].append(argument)
    return [part for part in parts if part]


def form_of(command: Command) -> Form:
    """Return the sections of a command, or of a part of a DAG. Raise KeyError for a command that HEADS doesn't know."""
    name = name_of(command)
    head = HEADS[name]
    words = [name]
    for kind, argument in zip(head, command[1:], strict=False):
        words.append("key" if kind == "data" else argument.decode().upper())
    rest = list(command[1 + len(head) :])
    dimensions = 0
    while rest and rest[0].isdigit():
        dimensions += 1
        rest.pop(0)
    if dimensions:
        words.append("dimension" if dimensions == 1 else "dimensions")
    return (" ".join(words), *_sections(rest))


def _sections(arguments: list[bytes]) -> Iterator[str]:
    """Split the arguments into sections. In a command that RedisAI refused, anything may be missing or wrong."""
    while arguments:
        keyword = arguments.pop(0).decode("utf-8", "backslashreplace").upper()
        follows = KEYWORDS.get(keyword)
        first = arguments.pop(0) if arguments and follows in (Follows.TEXT, Follows.NUMBER, Follows.COUNTED) else b""
        if follows is None:
            yield f"unknown word {keyword:.40}"
        elif follows is Follows.NOTHING:
            yield keyword
        elif follows is Follows.TEXT:
            yield f"{keyword} text"
        elif follows is Follows.NUMBER:
            yield f"{keyword} {_number(first)}"
        elif follows is Follows.COUNTED:
            count = int(first) if first.isdigit() else 0
            yield f"{keyword} {_amount(count)}"
            del arguments[:count]
        else:
            yield f"{keyword} {_amount(len(arguments))}"
            arguments.clear()


def _number(argument: bytes) -> str:
    return "positive" if argument.isdigit() and int(argument) > 0 else argument.decode("utf-8", "backslashreplace")


def _amount(count: int) -> str:
    return "many" if count > 1 else "one" if count == 1 else "none"


def _steps(form: Form) -> Iterable[tuple[str, str]]:
    """Return each section's first word, along with that of the next section."""
    return pairwise((*(section.split()[0] for section in form), END))


@dataclass
class Seen:
    """The sections and steps of the commands of one name, in one context."""

    sections: set[str] = field(default_factory=set)
    steps: set[tuple[str, str]] = field(default_factory=set)

    def add(self, form: Form) -> None:
        self.sections |= set(form)
        self.steps |= set(_steps(form))


@dataclass
class Accepted:
    """
    What a real RedisAI carried out alone, inside DAGs and between MULTI and EXEC, and what occurred in DAGs it refused.
    """

    alone: defaultdict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))
    in_dags: defaultdict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))
    refused_in_dags: defaultdict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))
    in_transactions: set[str] = field(default_factory=set)

    def objections(self, command: Command, *, in_transaction: bool = False) -> list[str]:
        """Return what in a command no recorded one shows to be accepted, each with the form that contains it."""
        found = []
        head, *operations = parts_of(command)
        if in_transaction and name_of(command) not in self.in_transactions:
            found.append(f"{name_of(command)} between MULTI and EXEC")
        found += self._objections(head, self.alone)
        for operation in operations:
            found += self._objections(operation, self.in_dags)
        return [f"{objection}   in   {form_text(command)}" for objection in found]

    def _objections(self, part: Command, place: dict[str, Seen]) -> list[str]:
        name = name_of(part)
        if name not in HEADS or name not in place:
            return [name if place is self.alone else f"{name} in a DAG"]
        form = form_of(part)
        sections, steps = place[name].sections, place[name].steps
        if place is self.in_dags:
            sections = sections | (self.alone[name].sections - self.refused_in_dags[name].sections)
            steps = steps | self.alone[name].steps
        return [section for section in form if section not in sections] + [
            " → ".join(step) for step in _steps(form) if step not in steps
        ]


def form_text(command: Command) -> str:
    return " |> ".join(
        " ".join(form_of(part)) if name_of(part) in HEADS else name_of(part) for part in parts_of(command)
    )


# -- reading the recorded conversations ----------------------------------------------------------


def accepted_in(conversations: Iterable[Any]) -> Accepted:
    """Collect what the recorded RedisAI carried out. A conversation is a list of steps."""
    accepted = Accepted()
    for steps in conversations:
        queues: dict[str, list[Command]] = {}
        for connection, step in _walk(steps, "a"):
            command = [argument_bytes(each) for each in step["send"]]
            _take(accepted, queues, connection, command, step.get("reply", {"error": "none was read"}))
    return accepted


def _walk(steps: Iterable[Any], connection: str) -> Iterator[tuple[str, Any]]:
    for step in steps:
        for number, parallel in enumerate(step.get("parallel", ())):
            yield from _walk(parallel, f"p{number}")
        if "send" in step:
            yield step.get("conn", connection), step


def _take(accepted: Accepted, queues: dict[str, list[Command]], connection: str, command: Command, reply: Any) -> None:
    name = name_of(command)
    if name == "MULTI":
        queues[connection] = []
    elif connection not in queues:
        _carried_out(accepted, command, reply)
    elif name in ("EXEC", "DISCARD"):
        queued = queues.pop(connection)
        for each, its_reply in zip(queued, reply.get("array", ()), strict=False):
            if _carried_out(accepted, each, its_reply):
                accepted.in_transactions.add(name_of(each))
    elif reply == {"simple": "QUEUED"}:
        queues[connection].append(command)


def _carried_out(accepted: Accepted, command: Command, reply: Any) -> bool:
    """Record what was carried out of a command, and return whether all of it was."""
    head, *operations = parts_of(command)
    if _is_error(reply):
        if reply not in OF_DATA:
            _enter(accepted.refused_in_dags, operations)
        return False
    _enter(accepted.alone, [head])
    outcomes = reply.get("array", ())
    _enter(accepted.in_dags, [each for each, its in zip(operations, outcomes, strict=False) if not _is_error(its)])
    return True


def _enter(place: dict[str, Seen], parts: Iterable[Command]) -> None:
    for part in parts:
        if name_of(part) in HEADS:
            place[name_of(part)].add(form_of(part))


def _is_error(reply: Any) -> bool:
    return bool({"error", "error_prefix"} & reply.keys()) or reply == {"simple": "NA"}
