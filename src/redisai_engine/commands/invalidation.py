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
#: Commands that rename a key, and the reply if they have. So its model need not be loaded again, which takes seconds.
_RENAMED = {b"RENAME": b"+OK\r\n", b"RENAMENX": b":1\r\n"}


def relay_and_invalidate(client: Client, arguments: Sequence[bytes]) -> Relay:
    """Relay a plain command that may change the key of a cached model. This is the body of every such command."""
    models = client.engine.models
    changes_any_key = arguments[0].upper() in CHANGES_ANY_KEY
    keys = models.tracked_keys if changes_any_key else models.tracked_keys.intersection(arguments)
    keys = set(keys)  # a copy, since forget_keys() shrinks `tracked_keys`
    models.forget_keys(keys)
    (raw,) = yield Pass(encode(arguments))
    models.forget_keys(keys)  # a run may have cached the old state while the command was in flight
    if _RENAMED.get(arguments[0].upper()) == raw and len(arguments) == 3 and not client.in_transaction:
        client.engine.moved(client.database, arguments[1], arguments[2])
    return bytes(raw)
