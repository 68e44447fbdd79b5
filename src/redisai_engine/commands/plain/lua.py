"""
EVAL of a script that names an AI command: adds an explanation to Redis' error.

Scripts run inside Redis, and AI commands are answered in front of it. Other scripts, and those called by digest or as a
function, are relayed unseen, so their error is Redis' own.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.commands.client import Client
from redisai_engine.commands.invalidation import relay_and_invalidate
from redisai_engine.commands.steps import Plan
from redisai_engine.commands.table import Keys, command
from redisai_engine.protocol import replies, texts


def _names_ai_command(arguments: Sequence[bytes]) -> bool:
    return len(arguments) > 1 and (b"AI." in arguments[1] or b"ai." in arguments[1])


def eval_(client: Client, arguments: Sequence[bytes]) -> Plan:
    """EVAL script count [key ...] [argument ...]"""
    raw = yield from relay_and_invalidate(client, arguments)
    # Redis 6.2 says "called from Lua script", Redis 7 "called from script".
    if raw.startswith(b"-") and b"nknown" in raw and b"command called from" in raw:
        return replies.error(raw[1:-2].decode("utf-8", "surrogateescape") + texts.NO_LUA)
    return raw


for _name in ("EVAL", "EVAL_RO"):
    command(
        _name, arity=(1, None), flags=(), keys=Keys(3), concerns=_names_ai_command, summary="Can't call AI commands"
    )(eval_)
