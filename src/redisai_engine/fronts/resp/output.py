"""
The bytes that are ready to be written to a client at the end of the turn.

Small replies are joined, so that there is one write per connection and turn. A large reply is written in its own
pieces, because joining them would copy it: `STEP_BYTES` at a time, the next when the transport has written the last. So
a client that reads slowly, or over TLS, where everything written is encrypted at once, takes no copy of a large reply.

Invariant: bytes leave in the order in which they were added.
"""

from __future__ import annotations

import asyncio
from collections import deque

from redisai_engine.protocol.replies import Reply
from redisai_engine.protocol.tensor import Buffer

STEP_BYTES = 2**20


class OutputBuffer:
    """The ready bytes of one transport, in order. `left` of them wait until the transport has written earlier ones."""

    __slots__ = ("_in_pieces", "_ready", "_waiting", "left")

    def __init__(self) -> None:
        self.left = 0
        self._ready: list[Buffer] = []
        self._in_pieces = False
        self._waiting: deque[Buffer] = deque()  # pieces of large replies, and everything behind them

    def __bool__(self) -> bool:
        return bool(self._ready)

    def add(self, reply: Reply) -> None:
        if isinstance(reply, bytes):
            self._ready.append(reply)
        else:
            self._ready += reply
            self._in_pieces = True

    def write(self, transport: asyncio.Transport, *, is_full: bool) -> None:
        """Write what is ready. Large replies wait if the transport `is_full`, and what is behind them."""
        ready, self._ready = self._ready, []
        if self._in_pieces or self.left:
            self._in_pieces = False
            self._waiting += ready
            self.left += sum(map(len, ready))
            if not is_full:
                self.write_step(transport)
        else:
            transport.write(ready[0] if len(ready) == 1 else b"".join(ready))

    def write_step(self, transport: asyncio.Transport) -> None:
        """Write the next bytes of large replies, `STEP_BYTES` at most."""
        step: list[Buffer] = []
        size = 0
        while self._waiting and size < STEP_BYTES:
            piece = self._waiting.popleft()
            room = STEP_BYTES - size
            if len(piece) > room:
                view = memoryview(piece)
                piece = view[:room]
                self._waiting.appendleft(view[room:])
            size += len(piece)
            step.append(piece)
        self.left -= size
        if size:
            transport.writelines(step)
