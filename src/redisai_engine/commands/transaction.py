"""
What a client has queued between MULTI and EXEC.

Invariant: `entries` has what Redis queued, in order, and nothing that it refused to queue: then EXEC aborts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from redisai_engine.commands.steps import Plan


@dataclass(slots=True)
class Entry:
    """
    `count` commands that Redis queued. `plan` goes on with their replies; without one their reply stands.

    The first `permits` of them only showed that the client may do what it asks for.
    """

    count: int = 1
    permits: int = 0
    plan: Plan | None = None
    raw: bool = False  # the plan wants the reply's bytes
    reply: bytes = b""  # the answer, where it is known already


@dataclass(slots=True)
class Transaction:
    """Everything between one MULTI and its EXEC."""

    entries: list[Entry] = field(default_factory=list)
    changed_keys: set[bytes] = field(default_factory=set)  # keys that queued plain commands name
    changes_any_key: bool = False
    stored: set[bytes] = field(default_factory=set)  # keys under which queued commands store models or scripts
    selects: bool = False  # another database is selected somewhere in it

    @property
    def is_plain(self) -> bool:
        return all(entry.plan is None and not entry.reply for entry in self.entries)
