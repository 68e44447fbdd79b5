"""
The process's table of descriptors: as large as the system allows, and how many clients fit into it.

Invariant: with no more clients than fit, the engine doesn't run out of descriptors.
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress

_PER_CLIENT = 2  # its own connection and the one to Redis
_WITHOUT_LIMIT = 2**20
_OTHERS = 64  # for what comes later: files of models and frameworks, hosts, the tracking connection


def room_for_clients() -> int:
    """Raise the limit of descriptors as far as possible. Return how many clients fit beside what is open now."""
    limit = _raised_limit()
    return max(1, (limit - len(os.listdir("/dev/fd")) - _OTHERS) // _PER_CLIENT)


def _raised_limit() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems have a bound of their own below an infinite hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else _WITHOUT_LIMIT
