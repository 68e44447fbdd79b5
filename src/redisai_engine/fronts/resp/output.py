"""
The bytes that are ready to be written to a client at the end of the turn.

Small replies are joined, so that there is one write per connection and turn. A large reply is written in its own
pieces, because joining them would copy it.
"""

from __future__ import annotations

import asyncio

from redisai_engine.protocol.replies import Reply
from redisai_engine.protocol.tensor import Buffer


class Output:
    """The ready bytes of one transport, in order."""

    __slots__ = ("_in_pieces", "_ready")

    def __init__(self) -> None:
        self._ready: list[Buffer] = []
        self._in_pieces = False

    def __bool__(self) -> bool:
        return bool(self._ready)

    def add(self, reply: Reply) -> None:
        if isinstance(reply, bytes):
            self._ready.append(reply)
        else:
            self._ready += reply
            self._in_pieces = True

    def write(self, transport: asyncio.Transport) -> None:
        """Write everything to the transport."""
        ready, self._ready = self._ready, []
        if self._in_pieces:
            self._in_pieces = False
            transport.writelines(ready)
        else:
            transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
