"""
ACL SETUSER with rights to AI commands: adds an explanation to Redis' error.

Redis accepts no right to a command that it doesn't know. The right to an AI command is the right to the plain commands
that it consists of; its row in the table names them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Pass, Plan
from redisai_engine.commands.table import COMMANDS, NO_KEYS, command
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.requests import encode

_RULE = re.compile(rb"[+-](?:@ai\b|(ai\.\w+))", re.IGNORECASE)


def _names_ai_command(arguments: Sequence[bytes]) -> bool:
    return len(arguments) > 3 and arguments[1].upper() == b"SETUSER" and any(map(_RULE.search, arguments[3:]))


@command("ACL", arity=(1, None), flags=(), keys=NO_KEYS, concerns=_names_ai_command, summary="Explains AI rights")
def acl(client: Client, arguments: Sequence[bytes]) -> Plan:
    """ACL SETUSER username rule ..."""
    (raw,) = yield Pass(encode(arguments))
    refused = _RULE.search(raw) if raw.startswith(b"-") else None
    if refused is None:
        return bytes(raw)
    row = COMMANDS.get((refused[1] or b"").upper())
    made_of = f"; {row.name} is made of {', '.join(row.made_of)}" if row else ""
    return replies.error(raw[1:-2].decode("utf-8", "surrogateescape") + texts.NO_RIGHTS % made_of)
