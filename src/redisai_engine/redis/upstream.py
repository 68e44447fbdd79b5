"""
The connection to Redis that each client has.

Theory of operation. What was sent is remembered as a queue of expectations, since Redis answers in order: a `Relayed`
run of plain commands whose replies go to the client as they came, chunk by chunk, or `Own` commands of an AI command
whose replies are taken out and decoded. What belongs to no command goes to the client: pushes of RESP3 and, where the
client asked for a stream (`streams`), messages of RESP2 and what MONITOR shows.

Invariant: bytes of a relayed reply are handed on in the chunks they came in, never copied together.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeGuard, cast

from redisai_engine.protocol.errors import ProtocolError
from redisai_engine.protocol.frames import PUSH, Frame, FrameScanner, decode
from redisai_engine.protocol.replies import command
from redisai_engine.protocol.tensor import Buffer
from redisai_engine.redis.address import Address
from redisai_engine.redis.backpressure import Reading, Reason

#: Messages to a subscriber, a shard channel that moved away, a line of MONITOR: what no command asked for, in RESP2.
_UNASKED = re.compile(rb"\*[34]\r\n\$\d\r\n[ps]?message\r\n|\*3\r\n\$12\r\nsunsubscribe\r\n|\+\d+\.\d+ \[")
_GRACE_SECONDS = 5.0  # for the last replies of a Redis that can't be told that no more comes


class Relayed:
    """`count` plain commands sent one after another whose replies are still due; `held` waits for earlier replies."""

    __slots__ = ("count", "held", "silent")

    def __init__(self, *, silent: bool) -> None:
        self.count = 0
        self.held: list[bytes] = []
        self.silent = silent


class Own:
    """Commands of the engine's own. `done` gets their replies, decoded, or as bytes if `raw`."""

    __slots__ = ("done", "raw", "replies", "want")

    def __init__(self, want: int, done: Callable[[list[Any]], None], *, raw: bool) -> None:
        self.want = want
        self.done = done
        self.raw = raw
        self.replies: list[Any] = []


class Until:
    """
    Bytes sent that have any number of replies: they go to the client up to the one that `is_last`.

    `is_last` is shown every reply and push in order, but a push is never the last.
    """

    __slots__ = ("done", "is_last")

    def __init__(self, is_last: Callable[[bytes], bool], done: Callable[[bytes], None]) -> None:
        self.is_last = is_last
        self.done = done


class Owner(Protocol):
    """The client's side."""

    def relayed(self, entry: Relayed, data: bytes) -> None: ...

    def pushed(self, data: bytes) -> None: ...

    def upstream_lost(self, reason: str, *, in_reply: bool) -> None: ...

    @property
    def reading(self) -> Reading: ...


class Upstream:
    """A client's connection to Redis. What is sent before it is open waits. It has no base for Session's reason."""

    def __init__(self, address: Address, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.reading = Reading()
        self.streams: set[str] = set()  # what the client subscribed to: "MESSAGES" in RESP2, "MONITOR"
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._scanner = FrameScanner()
        self._expected: deque[Relayed | Own | Until] = deque()
        self._partial: list[bytes] = []  # of a reply that isn't relayed
        self._out: list[Buffer] = []
        self._closed = False
        self._finished = False
        owner.reading.hold(Reason.SLOW_REDIS)  # until the connection is there
        self._task = loop.create_task(self._open(address))

    async def _open(self, address: Address) -> None:
        try:
            await address.connect(lambda: cast(asyncio.Protocol, self))
        except OSError as error:
            self._lost(f"ERR Redis at {address} can't be reached: {error.strerror or error}")

    def _lost(self, reason: str) -> None:
        self._closed = True
        self._owner.reading.release(Reason.SLOW_REDIS)
        self._owner.upstream_lost(reason, in_reply=not self._scanner.at_boundary)

    # Sending

    def relay(self, requests: bytes, entry: Relayed, count: int = 1) -> None:
        """Sends `count` plain commands whose replies belong to `entry`."""
        self._out.append(requests)
        entry.count += count
        if not self._expected or self._expected[-1] is not entry:
            self._expected.append(entry)

    def is_last(self, entry: object) -> bool:
        """Tells whether nothing was sent behind `entry`."""
        return bool(self._expected) and self._expected[-1] is entry

    @property
    def is_idle(self) -> bool:
        """Tells whether every reply has come."""
        return not self._expected

    def ask(self, commands: Sequence[tuple[Buffer, ...]], done: Callable[[list[Any]], None]) -> None:
        """Sends the engine's own commands; `done` gets the list of their decoded replies."""
        self._out += [command(*arguments) for arguments in commands]
        self._expected.append(Own(len(commands), done, raw=False))

    def ask_raw(self, request: bytes, done: Callable[[list[bytes]], None]) -> None:
        """Sends a command as it is; `done` gets its reply's bytes."""
        self._out.append(request)
        self._expected.append(Own(1, done, raw=True))

    def ask_until(self, request: bytes, is_last: Callable[[bytes], bool], done: Callable[[bytes], None]) -> None:
        """Sends bytes; `done` gets the reply that `is_last`, the client those before it."""
        self._out.append(request)
        self._expected.append(Until(is_last, done))

    def flush(self) -> None:
        if self._out and self._transport is not None and not self._closed:
            self._transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()

    def finish(self) -> None:
        """Tells Redis that no more comes: it answers what it can answer now and closes."""
        if self._finished or self._transport is None:
            return
        self._finished = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._loop.call_later(_GRACE_SECONDS, self._transport.abort)

    def close(self) -> None:
        self._closed = True
        self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    # Protocol's interface

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports are of no common class
        if self._closed:
            transport.abort()
            return
        self._transport = transport
        self.reading.attach(transport)
        self._owner.reading.release(Reason.SLOW_REDIS)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed:
            self._lost("ERR the connection to Redis was lost")

    def pause_writing(self) -> None:
        self._owner.reading.hold(Reason.SLOW_REDIS)

    def resume_writing(self) -> None:
        self._owner.reading.release(Reason.SLOW_REDIS)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._scanner.scan(data)
        except ProtocolError as error:
            self._lost(f"ERR {error}")
            self.close()
            return
        start = 0
        done = 0
        while done < len(frames):
            first = self._expected[0] if self._expected else None
            if self._is_handed_on(first):
                count, done = _count_replies(frames, done, first.count)
                end = frames[done - 1][1]
                first.count -= count
                if not first.count:
                    self._expected.popleft()
                self._owner.relayed(first, data[start:end] if start or end < len(data) else data)
            else:
                kind, end = frames[done]
                done += 1
                self._take(first, kind, data[start:end])
            start = end
        if start < len(data):
            self._keep(data[start:] if start else data)

    def _is_handed_on(self, entry: Relayed | Own | Until | None) -> TypeGuard[Relayed]:
        """Tells whether bytes go to the client as they come. They don't where single replies must be looked at."""
        return isinstance(entry, Relayed) and not (self._partial or entry.silent or self.streams)

    def _take(self, entry: Relayed | Own | Until | None, kind: int, data: bytes) -> None:
        """Takes a whole reply that is not simply handed on."""
        if self._partial:
            data = b"".join((*self._partial, data))
            self._partial.clear()
        if isinstance(entry, Until):
            if entry.is_last(data) and kind != PUSH:
                self._expected.popleft()
                entry.done(data)
            else:
                self._owner.pushed(data)
            return
        if kind == PUSH or entry is None or (self.streams and _UNASKED.match(data)):
            self._owner.pushed(data)
            return
        if isinstance(entry, Relayed):
            entry.count -= 1
            if not entry.count:
                self._expected.popleft()
            self._owner.relayed(entry, data)
            return
        entry.replies.append(data if entry.raw else decode(data))
        if len(entry.replies) == entry.want:
            self._expected.popleft()
            entry.done(entry.replies)

    def _keep(self, tail: bytes) -> None:
        """Takes the beginning of a reply: on its way at once if it is relayed, else kept until the rest has come."""
        first = self._expected[0] if self._expected else None
        if self._is_handed_on(first):
            self._owner.relayed(first, tail)
        else:
            self._partial.append(tail)


def _count_replies(frames: list[Frame], start: int, most: int) -> tuple[int, int]:
    """Counts at most `most` replies from frame `start` on, pushes left out; gives the count and the frame behind."""
    stop = start + most
    if all(kind != PUSH for kind, _ in frames[start:stop]):
        return min(most, len(frames) - start), min(stop, len(frames))
    count = 0
    position = start
    while position < len(frames) and count < most:
        count += frames[position][0] != PUSH
        position += 1
    return count, position
