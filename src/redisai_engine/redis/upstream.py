"""
The upstream connection: each client's own connection to Redis.

Theory of operation. Redis answers in order, so a queue of expectations records what was sent:

* `Relayed`: a run of plain commands, whose replies go to the client unchanged, chunk by chunk.
* `Own`: commands that an AI command is made of, whose replies are taken out and decoded.
* `Until`: a request with any number of replies.

Replies that belong to no command go to the client: RESP3's pushes and, if the client has asked for a stream
(`streams`), RESP2's messages and the lines of MONITOR.

Invariant: the bytes of a relayed reply are handed on in the chunks in which they arrived and never joined.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeGuard, cast

from redisai_engine.keepalive import keep_upstream_alive
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.errors import ProtocolError
from redisai_engine.protocol.frames import PUSH, Frame, FrameScanner, ReplyError, decode
from redisai_engine.protocol.replies import command_pieces
from redisai_engine.protocol.tensor import Buffer
from redisai_engine.redis.address import Address
from redisai_engine.redis.backpressure import Reading, Reason
from redisai_engine.redis.traffic import Arrivals, Traffic

_log = logging.getLogger(__name__)

#: What no command asked for, in RESP2: a message to a subscriber, a shard channel that moved away, a line of MONITOR.
_UNASKED = re.compile(rb"\*[34]\r\n\$\d\r\n[ps]?message\r\n|\*3\r\n\$12\r\nsunsubscribe\r\n|\+\d+\.\d+ \[")
NO_LIMIT: Final = 2**60  # bytes; what is larger than 2**61 is no machine integer in compiled code
#: The engine's own commands that change nothing. There are others.
_READING: Final = frozenset((b"EXISTS", b"GET", b"GETRANGE", b"HGET", b"HGETALL", b"HMGET", b"PTTL", b"STRLEN"))
_GRACE_SECONDS = 5.0  # for the last replies over TLS, where Redis can't be told that no more requests come


class Relayed:
    """
    A run of plain commands.

    `count` replies are still due. `held` has the bytes of replies that wait for earlier replies. The replies of a
    `silent` run are dropped (CLIENT REPLY).
    """

    __slots__ = ("count", "held", "silent")

    def __init__(self, *, silent: bool) -> None:
        self.count = 0
        self.held: list[bytes] = []
        self.silent = silent


class Own:
    """
    Commands of the engine's own. `done` gets the list of their replies: decoded, or as bytes if `raw`.

    Of what is larger than the limits, `limit` bytes for each reply and `room` for all together, nothing is kept, and a
    ReplyError takes its place: `refusal` if it is too large together with the others.
    """

    __slots__ = ("done", "limit", "raw", "refusal", "replies", "room", "want")

    def __init__(
        self, want: int, done: Callable[[list[Any]], None], *, raw: bool, limit: int, room: int, refusal: str
    ) -> None:
        self.want = want
        self.done = done
        self.raw = raw
        self.limit = limit
        self.room = room
        self.refusal = refusal
        self.replies: list[Any] = []

    def has_room_for(self, size: int) -> bool:
        return size <= self.limit and size <= self.room

    def take(self, data: bytes, size: int) -> None:
        """Take one reply, of which `data` may hold only the last bytes if there is no room for `size` bytes."""
        if size <= self.limit and size <= self.room:
            self.replies.append(data if self.raw else decode(data))
        else:
            refusal = texts.VALUE_TOO_LARGE % self.limit if size > self.limit else self.refusal
            self.replies.append(replies.error(refusal) if self.raw else ReplyError(refusal))
        self.room -= size


class Until:
    """
    A request with any number of replies.

    `done` gets the reply for which `is_last` is true; those before it go to the client. `is_last` sees every reply and
    push in order, but a push is never the last.
    """

    __slots__ = ("done", "is_last")

    def __init__(self, is_last: Callable[[bytes], bool], done: Callable[[bytes], None]) -> None:
        self.is_last = is_last
        self.done = done


class Owner(Protocol):
    """The client's side, which an upstream connection calls."""

    def relayed(self, entry: Relayed, data: bytes) -> None:
        """Take bytes of relayed replies."""

    def pushed(self, data: bytes) -> None:
        """Take a whole message that belongs to no command."""

    def upstream_lost(self, reason: str, *, in_reply: bool, by_redis: bool) -> None:
        """
        End everything that waits for Redis. `in_reply`: the last reply was cut off in the middle.

        `by_redis`: Redis has ended the connection or can't be reached, so a client of its own would get no answer.
        """

    @property
    def reading(self) -> Reading: ...


class Upstream:
    """
    A client's connection to Redis. Requests wait until it is open.

    An asyncio.Protocol in all but the base class, which would keep mypyc from compiling it to a native class.
    """

    def __init__(
        self,
        address: Address,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
        most: int = NO_LIMIT,
        *,
        timeout_ms: int = 0,
        traffic: Traffic | None = None,
        arrivals: Arrivals | None = None,
    ) -> None:
        """
        With `most`, the replies to one step of the engine's own may take that many bytes.

        With `timeout_ms`, the connection ends if the network doesn't take what was sent for that long. `traffic` counts
        what it carries, and `arrivals` what arrives.
        """
        self.reading = Reading()
        self.due = 0  # replies
        self.received = 0  # bytes
        self.streams: set[str] = set()  # what the client asked for: "MESSAGES" (in RESP2), "MONITOR"
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._scanner = FrameScanner()
        self._expected: deque[Relayed | Own | Until] = deque()
        self._partial: list[bytes] = []  # chunks of an incomplete reply that isn't handed on at once
        self._partial_size = 0
        self._seen: Relayed | Own | Until | None = None  # the first of `_expected` when it was last looked at
        self._long: Relayed | Own | Until | None = None  # the latest request that `holds_up`
        self._timeout_ms = timeout_ms
        self._most = most
        self._refusal = f"ERR Redis' replies take more than the {most} bytes that are allowed (see --request-limit)"
        self._out: list[Buffer] = []
        self._closed = False
        self._finished = False
        self._is_replication = False  # what arrives isn't made of replies any more
        self._traffic = traffic or Traffic()
        self._arrivals = arrivals or Arrivals()
        self._may_change = False  # something that may change keys was sent, and some reply has been due since
        owner.reading.hold(Reason.SLOW_REDIS)  # until the connection is open
        self._task = loop.create_task(self._open(address))

    async def _open(self, address: Address) -> None:
        try:
            await address.connect(lambda: cast(asyncio.Protocol, self))
        except OSError as error:
            reason = f"Redis at {address} can't be reached: {error.strerror or error}"
            self._traffic.unreachable(reason)
            self._lost(f"ERR {reason}", by_redis=True)
        except Exception:
            self._fail()

    def _lost(self, reason: str, *, by_redis: bool = False) -> None:
        self._closed = True
        if not self._finished:
            self._traffic.lost += 1
        self._owner.reading.release(Reason.SLOW_REDIS)
        self._owner.upstream_lost(reason, in_reply=not self._scanner.at_boundary, by_redis=by_redis)

    # Sending

    def relay(self, requests: bytes, entry: Relayed, count: int = 1) -> None:
        """Send `count` plain commands, whose replies belong to `entry`."""
        self._out.append(requests)
        self._may_change = True
        entry.count += count
        self.due += count
        self._traffic.relayed += count
        if not self._expected or self._expected[-1] is not entry:
            self._expected.append(entry)

    def is_last(self, entry: object) -> bool:
        """Return whether nothing has been sent after `entry`."""
        return bool(self._expected) and self._expected[-1] is entry

    @property
    def is_idle(self) -> bool:
        """Whether no reply is due."""
        return not self._expected

    def holds_up(self) -> None:
        """Record that the latest request may keep Redis from answering anybody for as long as it takes."""
        self._long = self._expected[-1]

    @property
    def may_be_given_up(self) -> bool:
        """Whether a reply is due, and none for a command that may hold up all of Redis."""
        return bool(self._expected) and self._long not in self._expected

    def has_waited(self) -> bool:
        """Return whether the same reply was due at the previous call."""
        before, self._seen = self._seen, self._expected[0] if self._expected and not self._closed else None
        return self._seen is not None and self._seen is before

    def give_up(self, reason: str) -> None:
        """End everything that waits for Redis, with this error, and close."""
        if not self._closed:
            self._lost(reason)
            self.close()

    def ask(
        self,
        commands: Sequence[tuple[Buffer, ...]],
        done: Callable[[list[Any]], None],
        limit: int = NO_LIMIT,
        *,
        most: int | None = None,
        refusal: str = "",
    ) -> None:
        """
        Send the engine's own commands. `done` gets the list of their decoded replies.

        `Own` explains `limit`, `most` (as `room`) and `refusal`.
        """
        for arguments in commands:
            if arguments[0] not in _READING:
                self._may_change = True
            pieces = command_pieces(*arguments)
            if isinstance(pieces, list):
                self._out += pieces
            else:
                self._out.append(pieces)
        self.due += len(commands)
        self._traffic.asked += 1
        room, refusal = (self._most, self._refusal) if most is None else (most, refusal)
        self._expected.append(Own(len(commands), done, raw=False, limit=limit, room=room, refusal=refusal))

    def ask_encoded(
        self,
        requests: bytes,
        count: int,
        done: Callable[[list[Any]], None],
        *,
        reads: bool = False,
        most: int | None = None,
        refusal: str = "",
    ) -> None:
        """
        Send `count` commands that are encoded already. `done` gets the list of the bytes of their replies.

        `reads`: they change nothing.
        """
        self._out.append(requests)
        if not reads:
            self._may_change = True
        self.due += count
        self._traffic.asked += 1
        room, refusal = (self._most, self._refusal) if most is None else (most, refusal)
        self._expected.append(Own(count, done, raw=True, limit=NO_LIMIT, room=room, refusal=refusal))

    def ask_raw(self, request: bytes, done: Callable[[list[bytes]], None]) -> None:
        """Send a command unchanged. `done` gets a list with the bytes of its reply."""
        self._out.append(request)
        self._may_change = True
        self.due += 1
        self._traffic.asked += 1
        self._expected.append(Own(1, done, raw=True, limit=NO_LIMIT, room=self._most, refusal=self._refusal))

    def ask_until(self, request: bytes, is_last: Callable[[bytes], bool], done: Callable[[bytes], None]) -> None:
        """Send a request with any number of replies (see `Until`)."""
        self._out.append(request)
        self._may_change = True
        self._traffic.asked += 1
        self._expected.append(Until(is_last, done))

    def replicate(self, request: bytes) -> None:
        """Send SYNC or PSYNC. No reply may be due. Whatever arrives from then on goes to the client as it is."""
        self._out.append(request)
        self._is_replication = True

    def flush(self) -> None:
        """Write everything that was sent since the last call, in one write, if the connection is open."""
        if self._out and self._transport is not None and not self._closed:
            if len(self._out) == 1:
                self._transport.write(self._out[0])
            elif sum(map(len, self._out)) < replies.LARGE:
                self._transport.write(b"".join(self._out))
            else:  # joining large values would copy them
                self._transport.writelines(self._out)
            self._out = []

    def finish(self) -> None:
        """Tell Redis that no more requests come. It answers what it can answer now and closes."""
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
        self._out = []  # these may hold a whole request, and this object lives on a while
        self._expected.clear()
        self._seen = self._long = None
        if self._transport is not None:
            self._transport.abort()

    # Protocol's interface

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports share no base class with asyncio's
        if self._closed:  # the client left while the connection was being opened
            transport.abort()
            return
        self._transport = transport
        try:
            self._traffic.reached()
            keep_upstream_alive(transport, self._timeout_ms)
            self.reading.attach(transport)
            self._owner.reading.release(Reason.SLOW_REDIS)
            self.flush()
        except Exception:  # the event loop would only log it
            self._fail()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._traffic.open -= 1
        if not self._closed:
            self._lost("ERR the connection to Redis was lost", by_redis=True)

    def pause_writing(self) -> None:
        self._owner.reading.hold(Reason.SLOW_REDIS)

    def resume_writing(self) -> None:
        self._owner.reading.release(Reason.SLOW_REDIS)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._arrivals.count(of_change=self._may_change)
        try:
            self._receive(data)
            if not self._expected:
                self._may_change = False
        except ProtocolError as error:
            self._lost(f"ERR {error}")
            self.close()
        except Exception:
            self._fail()

    def _fail(self) -> None:
        """End the connection because of a bug in the engine: what comes after it would be out of step."""
        _log.exception("a connection to Redis failed because of a bug in the engine")
        self._lost(texts.ENGINE_FAILED)
        self.close()

    def _receive(self, data: bytes) -> None:
        if self._is_replication:
            self._owner.pushed(data)
            return
        frames = self._scanner.scan(data)
        start = 0  # offset of the first byte that hasn't been dealt with
        done = 0  # frames that have been dealt with
        while done < len(frames):
            first = self._expected[0] if self._expected else None
            if self._is_handed_on(first):
                # All replies of the run that this chunk completes go to the client as one slice; a chunk that has
                # nothing else isn't even sliced.
                count, done = _count_replies(frames, done, first.count)
                end = frames[done - 1][1]
                first.count -= count
                self.due -= count
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
        """Return whether bytes go to the client in chunks. Not so if single replies must be examined."""
        return isinstance(entry, Relayed) and not (self._partial or entry.silent or self.streams)

    def _take(self, entry: Relayed | Own | Until | None, kind: int, data: bytes) -> None:
        """Take a whole reply that isn't handed on in chunks."""
        size = self._partial_size + len(data)
        if self._partial:
            data = b"".join((*self._partial, data))
            self._partial.clear()
            self._partial_size = 0
        if isinstance(entry, Until):
            # Before the test for pushes: in RESP3 its own replies, such as confirmations of SUBSCRIBE, are pushes.
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
            self.due -= 1
            if not entry.count:
                self._expected.popleft()
            self._owner.relayed(entry, data)
            return
        entry.take(data, size)
        if len(entry.replies) == entry.want:
            self._expected.popleft()
            self.due -= entry.want
            entry.done(entry.replies)

    def _keep(self, tail: bytes) -> None:
        """Take the start of a reply: hand it on at once if it is relayed, otherwise keep it until the rest arrives."""
        first = self._expected[0] if self._expected else None
        if self._is_handed_on(first):
            self._owner.relayed(first, tail)
            return
        self._partial_size += len(tail)
        if isinstance(first, Own) and not first.has_room_for(self._partial_size) and not self._scanner.in_push:
            self._partial = [b""]  # the size alone matters now
        else:
            self._partial.append(tail)


def _count_replies(frames: list[Frame], start: int, most: int) -> tuple[int, int]:
    """
    Count at most `most` replies from frame `start` on, leaving out pushes.

    Return the count and the index of the frame after them.
    """
    count = 0
    position = start
    while position < len(frames) and count < most:
        count += frames[position][0] != PUSH
        position += 1
    return count, position
