"""
Writes the pages docs/engine/settings.md and docs/engine/commands.md from the tables that the engine itself uses.

`python -m redisai_engine.reference settings` (or `commands`) prints a page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import fields

import redisai_engine.commands.ai
import redisai_engine.commands.plain  # noqa: F401  # enters all commands in the table
from redisai_engine.commands.client import Client
from redisai_engine.commands.table import COMMANDS, Command, InTransaction
from redisai_engine.config import ENVIRONMENT_PREFIX, Settings, flag

_NOTE = "<!-- Written by redisai_engine.reference from the tables in the source: change those, not this page. -->"


def settings_page() -> str:
    """The page of the settings, in Markdown."""
    rows = (
        (
            f"`{flag(row.name)}`",
            f"`{ENVIRONMENT_PREFIX}{row.name.upper()}`",
            _default(row.default),
            row.metadata["unit"],
            row.metadata["help"],
            row.metadata["why"],
        )
        for row in fields(Settings)
    )
    return "\n".join(
        [
            *("# Settings of the engine", "", _NOTE, ""),
            "A setting is a flag, an environment variable, or a line `name value` in the file that `--config FILE`",
            "names (`#` begins a comment). The command line wins over the environment, and that over the file.",
            "",
            *_table(("Flag", "Variable", "Default", "Unit", "Meaning", "Reason for the default"), rows),
            "",
        ]
    )


def commands_page() -> str:
    """The page of the commands, in Markdown."""
    listed = sorted(COMMANDS.values(), key=lambda row: row.name)
    return "\n".join(
        [
            *("# Commands of the engine", "", _NOTE, ""),
            "Arguments, replies and errors are RedisAI 1.2.7's; [compatibility.md](compatibility.md) has what differs.",
            "All other commands go to Redis as they came.",
            "",
            *_table(("Command", "What it does", "Flags", "Inside MULTI"), map(_summary, listed)),
            "",
            *(line for row in listed for line in _section(row)),
        ]
    )


def _summary(row: Command[Client]) -> tuple[str, ...]:
    queued = "queued" if row.in_transaction is InTransaction.QUEUE else "refused"
    return f"[{row.name}](#{row.name.lower().replace('.', '')})", row.summary, " ".join(row.flags), queued


def _section(row: Command[Client]) -> list[str]:
    made_of = ", ".join(row.made_of) or "nothing of Redis"
    return [f"## {row.name}", "", f"    {row.usage}", "", f"{row.summary}. Made of, and allowed as: {made_of}.", ""]


def _default(value: object) -> str:
    shown = {False: "no", True: "yes"}.get(value, value) if isinstance(value, bool) else value
    return f"`{shown}`" if shown != "" else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


PAGES = {"settings": settings_page, "commands": commands_page}

if __name__ == "__main__":
    print(PAGES[sys.argv[1]](), end="")
