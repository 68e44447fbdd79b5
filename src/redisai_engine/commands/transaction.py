"""
What a client has queued between MULTI and EXEC.

Invariant: `entries` lists what Redis has queued, in order. A command that Redis refused to queue isn't listed, and then
EXEC aborts the transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from redisai_engine.commands.steps import Plan


@dataclass(slots=True)
class Entry:
    """
    One of the client's commands, for which Redis has queued `count` commands.

    With a `plan`, their replies resume it. Without one, the answer is `reply` or else Redis' own reply. The first
    `permits` of the commands only showed that the client has the rights that it needs. `renames` are the keys of a
    RENAME or RENAMENX.
    """

    count: int = 1
    permits: int = 0
    plan: Plan | None = None
    raw: bool = False  # the plan wants replies as bytes, not decoded
    reply: bytes = b""  # the answer, if it is already known
    renames: tuple[bytes, bytes] | None = None


@dataclass(slots=True)
class Transaction:
    """Everything between one MULTI and its EXEC."""

    entries: list[Entry] = field(default_factory=list)
    changed_keys: set[bytes] = field(default_factory=set)  # tracked keys that queued plain commands name
    changes_any_key: bool = False
    stored: set[bytes] = field(default_factory=set)  # keys under which queued commands store models or scripts
    selects: bool = False  # whether a queued command is SELECT

    @property
    def is_plain(self) -> bool:
        """Whether EXEC's reply can go to the client unchanged."""
        return all(entry.plan is None and not entry.reply for entry in self.entries)
