"""
Plain commands that may change the key of a model that is in use.

What is known of the key is distrusted when such a command is sent, and again when its reply is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.commands.table import Context, Pass, Plan
from redisai_engine.protocol.requests import encode

#: Commands that can change any key without naming it.
TOUCH_ALL = frozenset((b"FLUSHALL", b"FLUSHDB", b"SWAPDB", b"EVAL", b"EVALSHA", b"FCALL", b"DEBUG"))


def touching(context: Context, arguments: Sequence[bytes]) -> Plan:
    """The body of any plain command that may change the key of a model that is in use."""
    models = context.engine.models
    touches_all = arguments[0].upper() in TOUCH_ALL
    keys = models.names if touches_all else models.names.intersection(arguments)
    keys = set(keys)
    models.distrust(keys)
    (raw,) = yield Pass(encode(arguments))
    models.distrust(keys)
    return bytes(raw)
