"""
Plain commands that may change the key of a model that is in use.

What is known of the key is distrusted when such a command is sent, and again when its reply is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Pass, Plan
from redisai_engine.protocol.requests import encode

#: Commands that can change any key without naming it.
TOUCH_ALL = frozenset((b"FLUSHALL", b"FLUSHDB", b"SWAPDB", b"EVAL", b"EVALSHA", b"FCALL", b"DEBUG"))


def touching(client: Client, arguments: Sequence[bytes]) -> Plan:
    """The body of any plain command that may change the key of a model that is in use."""
    models = client.engine.models
    touches_all = arguments[0].upper() in TOUCH_ALL
    keys = models.tracked_keys if touches_all else models.tracked_keys.intersection(arguments)
    keys = set(keys)
    models.forget_keys(keys)
    (raw,) = yield Pass(encode(arguments))
    models.forget_keys(keys)
    return bytes(raw)
