"""
Plain commands that may change the key of a cached model.

What is known of such a key is forgotten when the command is sent, and again when its reply arrives.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Pass, Relay
from redisai_engine.protocol.requests import encode

#: Commands that can change any key without naming it.
CHANGES_ANY_KEY = frozenset((b"FLUSHALL", b"FLUSHDB", b"SWAPDB", b"EVAL", b"EVALSHA", b"FCALL", b"DEBUG"))
#: Commands that rename a key, and their replies if they have. Its model need not be loaded again, which takes seconds.
_RENAMES = frozenset((b"RENAME", b"RENAMENX"))
HAS_RENAMED = frozenset((b"+OK\r\n", b":1\r\n"))


def relay_and_invalidate(client: Client, arguments: Sequence[bytes]) -> Relay:
    """Relay a plain command that may change the key of a cached model. This is the body of every such command."""
    models = client.engine.models
    changes_any_key = arguments[0].upper() in CHANGES_ANY_KEY
    keys = models.tracked_keys if changes_any_key else models.tracked_keys.intersection(arguments)
    keys = set(keys)  # a copy, since forget_keys() shrinks `tracked_keys`
    models.forget_keys(keys)
    (raw,) = yield Pass(encode(arguments))
    models.forget_keys(keys)  # a run may have cached the old state while the command was in flight
    keys_of = renamed_keys(arguments)
    if keys_of is not None and raw in HAS_RENAMED:
        client.engine.moved(client.database, *keys_of)
    return bytes(raw)


def renamed_keys(arguments: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Return the old and the new key of a command that renames one."""
    if arguments[0].upper() in _RENAMES and len(arguments) == 3:
        return arguments[1], arguments[2]
    return None
