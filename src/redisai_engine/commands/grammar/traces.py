"""
Where a DAG names its trace: at the end of ROUTING's key, which is a W3C `traceparent` there.

It is still a key, for which Redis is asked whether the user may read it, and any RedisAI takes it. So it begins as the
user's keys do, such as with the model's name: `ROUTING wine:00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from redisai_engine.commands.grammar.dags import SEPARATOR

_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_LENGTH = 55  # bytes of one


def trace_in(key: bytes) -> str:
    """Return the trace at the end of a key, or an empty string."""
    found = _TRACEPARENT.search(key, max(len(key) - _LENGTH, 0))
    return found[0].decode() if found else ""


def trace_of(arguments: Sequence[bytes]) -> str:
    """Return the trace that a DAG's arguments name, or an empty string."""
    for word, key in pairwise(arguments):
        if word == SEPARATOR:
            break
        if word.upper() == b"ROUTING":
            return trace_in(key)
    return ""
