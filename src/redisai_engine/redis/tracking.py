"""
The engine's own connection to Redis with client tracking on. It reads model ids and receives invalidation messages.

Theory of operation. The connection speaks RESP3, in which invalidation messages come on the same connection as the
replies and in order with them. So an invalidation that follows the reply for a key means that the value read is stale.
When the connection is lost, invalidations may be lost too: everything is invalidated (`changed(None)`), and the
connection is opened again.

Redis may refuse to let the engine in, to track, or to show it a key: its password or its rights have changed. Then the
log says so once, `problem` says so until it is over, and the engine tries again from time to time.

Invariant: while `is_open` is False nothing is read, and `changed(None)` has been called since the last read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

from redisai_engine.keepalive import keep_upstream_alive
from redisai_engine.protocol.errors import ProtocolError
from redisai_engine.protocol.frames import PUSH, FrameScanner, ReplyError, decode
from redisai_engine.protocol.replies import command
from redisai_engine.redis.address import Address
from redisai_engine.redis.metadata import MAX_METADATA

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_CONNECT_SECONDS = 10.0
_UNSENT_MS = 30_000  # after which a connection whose network takes nothing is opened anew
REFUSED_SECONDS = 5.0  # until what Redis has refused is tried again

Changed = Callable[[Iterable[bytes] | None], None]
Answered = Callable[[bytes | None, int], None]


class Tracking(asyncio.Protocol):
    """
    A connection with client tracking, which opens again after it was lost.

    If Redis refuses tracking, `is_open` is False and `problem` is its text. `changed` is called with the keys that were
    invalidated, or with None if any key may have changed.
    """

    def __init__(self, address: Address, loop: asyncio.AbstractEventLoop, changed: Changed) -> None:
        self.is_open = False
        self.opened = 0  # how often, for metrics
        self.problem = ""
        self._refused: bytes | None = None  # the key that Redis hasn't shown, if that is the problem
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

    async def _open(self, *, after: float = 0.0) -> None:
        await asyncio.sleep(after)
        while True:
            try:
                await asyncio.wait_for(self._address.connect(lambda: self), _CONNECT_SECONDS)
                return
            except (OSError, asyncio.TimeoutError):
                await asyncio.sleep(_RETRY_SECONDS)

    def read(
        self, database: int, key: bytes, field: bytes, answered: Answered, refused: Callable[[], None] = lambda: None
    ) -> None:
        """
        Read a field of a hash under tracking.

        `answered` gets the value, or None, and the milliseconds until the key expires, negative if it doesn't. If Redis
        doesn't show the key, `refused` is called instead.
        """
        if self._database != database:
            self._database = database
            self._send((b"SELECT", b"%d" % database), lambda reply: None)
        held: list[Any] = []
        # Redis sends the invalidation of an expired key only when it deletes the key, which may be later than the
        # expiry. So the caller needs the expiry as well.
        self._send((b"HGET", key, field), held.append)

        def both(ttl: Any) -> None:
            if _is_refusal(held[0]):
                self._refused = key
                self._has_problem(held[0].text)
                refused()
                return
            if key == self._refused:
                self._has_no_problem()
            answered(_bytes(held[0]), ttl if isinstance(ttl, int) else 0)

        self._send((b"PTTL", key), both)

    def reopen(self) -> None:
        """End the connection, of which nothing can be trusted any more, and open a new one."""
        if self._transport is not None:
            self._transport.abort()

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
        keep_upstream_alive(transport, _UNSENT_MS)
        greeting: list[Any] = []
        credentials = self._address.credentials
        if credentials:
            # HELLO's AUTH needs a user name, unlike the command AUTH.
            user = credentials if len(credentials) == 2 else (b"default", *credentials)
            self._send((b"HELLO", b"3", b"AUTH", *user), greeting.append)
        else:
            self._send((b"HELLO", b"3"), greeting.append)
        self._send((b"CLIENT", b"TRACKING", b"ON"), lambda reply: self._started(greeting[0], reply))

    def _started(self, *answers: Any) -> None:
        refusal = next((answer.text for answer in answers if isinstance(answer, ReplyError)), "")
        if refusal:
            self._has_problem(refusal)
            self.reopen()
            return
        self.is_open = True
        self.opened += 1
        self._has_no_problem()
        self._changed(None)  # nothing that is in memory has been read on this connection yet

    def _has_problem(self, text: str) -> None:
        if text != self.problem:
            _log.warning(
                "Redis doesn't tell the engine of changes, so predictions ask for their model's version each time: %s",
                text,
            )
        self.problem = text

    def _has_no_problem(self) -> None:
        if self.problem:
            _log.warning("Redis tells the engine of changes again")
        self.problem = ""
        self._refused = None

    def connection_lost(self, exc: Exception | None) -> None:
        was_open, self.is_open = self.is_open, False
        self._changed(None)
        if not self._closed:
            # Reconnect at once, but not in a tight loop with a Redis that drops the connection before tracking is on.
            pause = 0.0 if was_open else REFUSED_SECONDS if self.problem else _RETRY_SECONDS
            self._task = self._loop.create_task(self._open(after=pause))

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


def _is_refusal(reply: Any) -> bool:
    """Return whether the reply says nothing about the key. That it holds another kind of value does."""
    return isinstance(reply, ReplyError) and not reply.text.startswith("WRONGTYPE")


def _bytes(value: Any) -> bytes | None:
    return value if isinstance(value, bytes) else None
