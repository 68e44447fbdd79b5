"""
Set a tensor in one round trip: a Lua script in Redis checks the key and writes it, which otherwise takes two commands.

Theory of operation. Each connection has its own `TensorScript`. It sends the script by its digest, and in full if Redis
doesn't have it yet. The script either writes or reports that it did nothing: the key holds something other than a
tensor, memory is short, or a right is missing. The command then falls back to the regular path, which reports the
error. So this module has no error texts and no behaviour of its own. A connection that isn't allowed to run the script
stops trying for `_REFUSED_SECONDS`.
"""

from __future__ import annotations

import hashlib
from asyncio import AbstractEventLoop
from collections.abc import Generator
from typing import Any

from redisai_engine.protocol.frames import ReplyError
from redisai_engine.redis.store import TENSOR_MAGIC

LARGEST = 8 * 1024  # bytes of a value; Lua copies it, and above about 10 KB two commands cost Redis less time
_REFUSED_SECONDS = 60.0  # how long an error stops further attempts; a missing right, for one, rarely goes away soon

# As on the regular path, an empty reply means no key or an empty string, which is no tensor; NX tells them apart.
_SCRIPT = b"""
local held = redis.pcall('GETRANGE', KEYS[1], 0, 7)
local done
if held == '' then
  done = redis.pcall('SET', KEYS[1], ARGV[1], 'NX')
elseif held == '%b' then
  done = redis.pcall('SET', KEYS[1], ARGV[1])
end
return done and done.ok and 1 or 0
""" % b"".join(b"\\%03d" % byte for byte in TENSOR_MAGIC)
DIGEST = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest().encode()


def lacks_script(error: ReplyError) -> bool:
    """Return whether Redis doesn't know the script by its digest."""
    return error.text.startswith("NOSCRIPT")


class TensorScript:
    """The script as one connection uses it, and whether it is worth trying now."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._refused_until = 0.0

    def allow(self) -> None:
        """Try the script again on the next occasion: the client may have other rights now."""
        self._refused_until = 0.0

    @property
    def is_worth_trying(self) -> bool:
        return self._refused_until <= self._loop.time()

    def refused(self) -> None:
        """Stop trying for a while, because of an error."""
        self._refused_until = self._loop.time() + _REFUSED_SECONDS

    def set(self, key: bytes, value: bytes) -> Generator[Any, Any, bool]:
        """Set a tensor's string. Return False if nothing was done and the caller must take the regular path."""
        if len(value) > LARGEST or not self.is_worth_trying:
            return False
        (done,) = yield [(b"EVALSHA", DIGEST, b"1", key, value)]
        if isinstance(done, ReplyError) and lacks_script(done):
            (done,) = yield [(b"EVAL", _SCRIPT, b"1", key, value)]
        if isinstance(done, ReplyError):
            self.refused()
        return bool(done == 1)
