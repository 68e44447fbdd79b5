"""
A tensor set in one round trip: a Lua script in Redis looks at the key and writes, where else two commands are needed.

Theory of operation. `TensorScript` is one connection's. It sends the script by its digest, the whole of it where Redis
doesn't have it yet. The script writes, or says no to whatever is unusual: a key that holds no tensor, too little
memory, a right that lacks. Then the command goes the ordinary way, which has the errors, so this module has no error
texts and no behaviour of its own. Where the script itself isn't allowed, the connection does without it.
"""

from __future__ import annotations

import hashlib
from asyncio import AbstractEventLoop
from collections.abc import Generator
from typing import Any

from redisai_engine.protocol.frames import ReplyError
from redisai_engine.redis.store import TENSOR_MAGIC

LARGEST = 8 * 1024  # bytes of a value; Lua copies it, and above about 10 KB two commands keep Redis less busy
_REFUSED_SECONDS = 60.0  # for so long an error is remembered; most, such as a right that lacks, don't go away soon

# As in the ordinary way, an empty answer means no key or somebody's empty string; NX tells them apart.
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
_DIGEST = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest().encode()


class TensorScript:
    """Whether this connection may set tensors in one step, and how."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._refused_until = 0.0

    def allow(self) -> None:
        """Tries again, since whoever asks may have other rights than before."""
        self._refused_until = 0.0

    def set(self, key: bytes, value: bytes) -> Generator[Any, Any, bool]:
        """Sets a tensor's string; False: nothing was done, the ordinary way has to be gone."""
        if len(value) > LARGEST or self._refused_until > self._loop.time():
            return False
        (done,) = yield [(b"EVALSHA", _DIGEST, b"1", key, value)]
        if isinstance(done, ReplyError) and done.text.startswith("NOSCRIPT"):
            (done,) = yield [(b"EVAL", _SCRIPT, b"1", key, value)]
        if isinstance(done, ReplyError):
            self._refused_until = self._loop.time() + _REFUSED_SECONDS
        return bool(done == 1)
