"""
The engine's own connection to Redis with client tracking on. It reads model ids and receives invalidation messages.

Theory of operation. The connection speaks RESP3, in which invalidation messages come on the same connection as the
replies and in order with them. So an invalidation that follows the reply for a key means that the value read is stale.
When the connection is lost, invalidations may be lost too: everything is invalidated (`changed(None)`), and the
connection is opened again.

Invariant: while `is_open` is False nothing is read, and `changed(None)` has been called since the last read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

from redisai_engine.protocol.errors import ProtocolError
from redisai_engine.protocol.frames import PUSH, FrameScanner, ReplyError, decode
from redisai_engine.protocol.replies import command
from redisai_engine.redis.address import Address
from redisai_engine.redis.metadata import MAX_METADATA

_RETRY_SECONDS = 1.0

Changed = Callable[[Iterable[bytes] | None], None]
Answered = Callable[[bytes | None, int], None]


class Tracking(asyncio.Protocol):
    """
    A connection with client tracking, which opens again after it was lost.

    If Redis refuses tracking, `is_open` stays False. `changed` is called with the keys that were invalidated, or with
    None if any key may have changed.
    """

    def __init__(self, address: Address, loop: asyncio.AbstractEventLoop, changed: Changed) -> None:
        self.is_open = False
        self._address = address
        self._loop = loop
        self._changed = changed
        self._transport: asyncio.Transport | None = None
        self._scanner = FrameScanner()
        self._partial: list[bytes] = []  # chunks of an incomplete reply
        self._partial_size = 0
        self._waiting: deque[Callable[[Any], None]] = deque()
        self._database = 0
        self._closed = False
        self._task = loop.create_task(self._open())

    async def _open(self, *, later: bool = False) -> None:
        if later:
            await asyncio.sleep(_RETRY_SECONDS)
        while True:
            try:
                await self._address.connect(lambda: self)
                return
            except OSError:
                await asyncio.sleep(_RETRY_SECONDS)

    def read(self, database: int, key: bytes, field: bytes, answered: Answered) -> None:
        """
        Read a field of a hash under tracking.

        `answered` gets the value, or None, and the milliseconds until the key expires, negative if it doesn't.
        """
        if self._database != database:
            self._database = database
            self._send((b"SELECT", b"%d" % database), lambda reply: None)
        held: list[Any] = []
        # Redis sends the invalidation of an expired key only when it deletes the key, which may be later than the
        # expiry. So the caller needs the expiry as well.
        self._send((b"HGET", key, field), held.append)
        self._send((b"PTTL", key), lambda ttl: answered(_bytes(held[0]), ttl if isinstance(ttl, int) else 0))

    def close(self) -> None:
        self._closed = True
        self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _send(self, arguments: tuple[bytes, ...], done: Callable[[Any], None]) -> None:
        assert self._transport is not None
        self._waiting.append(done)
        self._transport.write(command(*arguments))

    # Protocol's interface

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports share no base class with asyncio's
        self._transport = transport
        # A new connection starts in database 0, and replies to the old one's commands never come.
        self._scanner = FrameScanner()
        self._partial = []
        self._partial_size = 0
        self._waiting.clear()
        self._database = 0
        credentials = self._address.credentials
        if credentials:
            # HELLO's AUTH needs a user name, unlike the command AUTH.
            user = credentials if len(credentials) == 2 else (b"default", *credentials)
            self._send((b"HELLO", b"3", b"AUTH", *user), lambda reply: None)
        else:
            self._send((b"HELLO", b"3"), lambda reply: None)
        self._send((b"CLIENT", b"TRACKING", b"ON"), self._started)

    def _started(self, reply: Any) -> None:
        self.is_open = not isinstance(reply, ReplyError)
        if self.is_open:
            self._changed(None)  # nothing that is in memory has been read on this connection yet

    def connection_lost(self, exc: Exception | None) -> None:
        was_open, self.is_open = self.is_open, False
        self._changed(None)
        if not self._closed:
            # Reconnect at once, but not in a tight loop with a Redis that drops the connection before tracking is on.
            self._task = self._loop.create_task(self._open(later=not was_open))

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._scanner.scan(data)
        except ProtocolError:
            assert self._transport is not None
            self._transport.abort()
            return
        start = 0
        for kind, end in frames:
            self._partial.append(data[start:end])
            too_large = self._partial_size + end - start > MAX_METADATA and kind != PUSH
            reply = None if too_large else decode(b"".join(self._partial))
            start = end
            self._partial = []
            self._partial_size = 0
            if kind == PUSH:
                self._message(reply)
            else:
                self._waiting.popleft()(reply)
        if start < len(data):
            self._keep(data[start:])

    def _keep(self, chunk: bytes) -> None:
        """Keep the start of a reply. What is too long for an id isn't kept: only its size matters."""
        self._partial_size += len(chunk)
        if self._partial_size > MAX_METADATA and not self._scanner.in_push:
            self._partial = []
        else:
            self._partial.append(chunk)

    def _message(self, message: Any) -> None:
        """Handle a push: `invalidate` with a list of keys, or with null if all keys are gone (FLUSHALL)."""
        if isinstance(message, list) and message and message[0] == b"invalidate":
            self._changed(message[1])


def _bytes(value: Any) -> bytes | None:
    return value if isinstance(value, bytes) else None
