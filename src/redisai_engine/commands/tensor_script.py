"""
Set tensors in one round trip: a Lua script in Redis checks the keys and writes them, which otherwise takes two steps.

Theory of operation. Each connection has its own `TensorScript`. It sends the script by its digest, and in full if Redis
doesn't have it yet. The script either writes or reports that it didn't: a key holds something other than a tensor,
memory is short, or a right is missing. The command then falls back to the regular path, which reports the error. So
this module has no error texts and no behaviour of its own. A connection that isn't allowed to run the script stops
trying for `_REFUSED_SECONDS`.

With one more argument than keys, the script also reads the keys after it has written them. A connection with client
tracking on is then told of later changes (`service/memory/tensors.py`).
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Generator
from typing import Any

from redisai_engine.protocol.frames import ReplyError
from redisai_engine.redis.store import TENSOR_MAGIC

LARGEST = 8 * 1024  # bytes of a value; Lua copies it, and above about 10 KB two commands cost Redis less time
_REFUSED_SECONDS = 60.0  # how long an error stops further attempts; a missing right, for one, rarely goes away soon

# As on the regular path, an empty reply means no key or an empty string, which is no tensor.
_SCRIPT = b"""
for i, key in ipairs(KEYS) do
  local held = redis.pcall('GETRANGE', key, 0, 7)
  if held ~= '%b' and (held ~= '' or redis.pcall('EXISTS', key) ~= 0) then return 0 end
end
for i, key in ipairs(KEYS) do
  local done = redis.pcall('SET', key, ARGV[i])
  if not done.ok then return 0 end
end
if #ARGV == #KEYS then return 1 end
for i, key in ipairs(KEYS) do
  if type(redis.pcall('GET', key)) ~= 'string' then return 1 end
end
return 2
""" % b"".join(b"\\%03d" % byte for byte in TENSOR_MAGIC)
WRITTEN = b":1\r\n"
WRITTEN_AND_READ = b":2\r\n"
DIGEST = b"ef171402312653d1f4d6cecf309479379d47b033"  # its SHA-1, which a test computes


def lacks_script(error: ReplyError) -> bool:
    """Return whether Redis doesn't know the script by its digest."""
    return error.text.startswith("NOSCRIPT")


def load_script() -> Generator[Any, Any, None]:
    """Have Redis know the script. Whether that was allowed shows later."""
    yield [(b"EVAL", _SCRIPT, b"0")]


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
