"""
One client connection: requests in, replies out, in order.

Theory of operation. A request is either relayed to Redis as it came or carried out as a task (a command of the
table). Each has its place in `_places`, the replies that are still due, in the order of the requests; whatever is at
the front and ready is written once per turn. A relayed reply at the front is written chunk by chunk.

All commands of a connection, the parts of AI commands included, go to Redis over one connection of its own, so
Redis sees them in the client's order. A task that may need Redis again is `_busy`: requests behind it wait, as they
wait in Redis behind a blocked client.

A client may write a whole pipeline before it reads the first reply, so its requests are taken while its replies wait.
Those of Redis wait there: it isn't read from, unless a command of the engine's own needs its answer to go on. What
waits here is bounded by `output-limit`; beyond it the connection is closed, as Redis does. A client that ends its
side still gets what is due; then Redis is told that no more comes, so a command that blocks there ends, too.

Invariant: `dispatch` and `flush` run only in a turn of the engine; callbacks only touch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import cast

from redisai_engine.commands.ai.prepared import PreparedDag, PreparedDags, PreparedRun
from redisai_engine.commands.one_step import OneStep
from redisai_engine.commands.plain.plain import PONG_RIGHT, is_confirmation
from redisai_engine.commands.rights import Rights
from redisai_engine.commands.table import COMMANDS, PLAIN_COMMANDS, Command, InTransaction, Plan, Silence
from redisai_engine.commands.task import Task
from redisai_engine.commands.touching import TOUCH_ALL, touching
from redisai_engine.commands.transaction import Entry, Transaction, queue
from redisai_engine.fronts.resp.output import Output, Ready
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.errors import ProtocolError
from redisai_engine.protocol.requests import RequestParser
from redisai_engine.redis.backpressure import Reading, Reason
from redisai_engine.redis.upstream import Relayed, Upstream
from redisai_engine.service.engine import Engine

_log = logging.getLogger(__name__)

_REQUESTS_PER_TURN = 256  # of one connection; a large pipeline must not keep all others waiting
_BACKLOG_BYTES = 2**20  # so much is read before the requests in it have begun
_MOST_WAITING = 100_000  # requests of one connection, about 1 KB each, that have begun and wait for their replies
_HELD_BYTES = 2**20  # so much of later replies is taken from Redis while an earlier one isn't ready
_ROWS = {**COMMANDS, **PLAIN_COMMANDS}
_LOOKED_AT = TOUCH_ALL | _ROWS.keys()
# Names, as clients write them, that nobody here looks at: found once, then runs of them are relayed in one piece.
_relayed_names: set[bytes] = set()
_MAX_RELAYED_NAMES = 1000
_PREDICTION = COMMANDS[b"AI.DAGEXECUTE_RO"]
_PING = PLAIN_COMMANDS[b"PING"]
_PONG = Ready(replies.PONG)
_SPEAKING = Silence.NONE  # looking into an enumeration takes longer than all the rest of `_is_silent`


class Session:
    """
    The client's side of a connection, and what the engine must know of it.

    An asyncio.Protocol in all but the base, which would keep it from being compiled to a native class.
    """

    def __init__(self, engine: Engine, sessions: set[Session]) -> None:
        self.engine = engine
        self._sessions = sessions
        self._transport: asyncio.Transport | None = None
        self._parser = RequestParser()
        self._upstream: Upstream | None = None
        self.reading = Reading()
        # Replies that are due, and bytes that are ready to be written
        self._places: deque[Task | PreparedRun | Relayed | Ready] = deque()
        self._held_size = 0  # bytes of relayed replies that wait for earlier ones
        self._out = Output()
        self._output_is_full = False  # the client doesn't read as fast as it is answered
        # What later requests wait for
        self._busy: object | None = None
        self._delayed: tuple[Command, list[bytes]] | None = None
        self._rests = False  # until the next turn, because it had its share of this one
        self._backlog = 0  # bytes that came since all requests were taken
        self._parts: set[Task] = set()  # what a running script has asked for
        self._ended = False  # the client sends no more
        self._closing = False  # no more requests are taken
        self._finishing = False  # Redis is told so, too
        self._lost = b""  # the error of whatever would need Redis still
        # What the client asked for
        self.protocol = 2
        self.database = 0
        self.transaction: Transaction | None = None
        self.silence = Silence.NONE
        self.rights = Rights(engine.loop)
        self._prepared = PreparedDags()
        self.one_step = OneStep(engine.loop)

    @property
    def upstream(self) -> Upstream:
        """The connection to Redis, opened when it is first needed."""
        if self._upstream is None:
            self._upstream = Upstream(self.engine.upstream, self, self.engine.loop)
        return self._upstream

    # What bodies know and change

    @property
    def in_transaction(self) -> bool:
        return self.transaction is not None

    @property
    def may_trust(self) -> bool:
        """
        Tells whether what is known of keys without asking may be used for the present request.

        Not behind a plain command that is still on its way: its reply may show a change that the engine hasn't been
        told of yet, and what one connection sees must fit together.
        """
        return self._upstream is None or self._upstream.is_idle

    def forget_rights(self) -> None:
        self.rights.forget()
        self._prepared.forget()
        self.one_step.allow()

    def reset(self) -> None:
        """Puts everything back to how a new connection is, after RESET."""
        self.protocol = 2
        self.database = 0
        self.transaction = None
        self.streams.clear()
        if self.silence is Silence.OFF:  # Redis sends RESET's own reply then, but not behind CLIENT REPLY SKIP
            self.end_silence()
        self.forget_rights()

    @property
    def streams(self) -> set[str]:
        return self.upstream.streams

    def end_silence(self) -> None:
        """Has replies sent again, that of the command being carried out included."""
        self.silence = Silence.NONE
        if isinstance(self._busy, Task):
            self._busy.silent = False

    # Requests

    def dispatch(self) -> None:
        """Begins with every request that may begin now."""
        if self._delayed is not None and not self._places:
            row, delayed = self._delayed
            self._delayed = self._busy = None
            self._begin(row, delayed)
        for _ in range(_REQUESTS_PER_TURN):
            if self._busy is not None or self._closing or self._rests or len(self._places) > _MOST_WAITING:
                return
            if self._take_another():
                continue
            try:
                arguments = self._parser.next()
            except ProtocolError as error:
                self._refuse(f"ERR {error.text}")
                return
            if arguments is None:
                self._all_taken()
                return
            self._take(arguments)
        self._rests = True
        self.engine.loop.call_soon(self._go_on)

    def _take_another(self) -> bool:
        """Takes the next request if it is a prediction of the same form as the latest, straight out of the bytes."""
        form = self._prepared.latest
        if form is None or self.transaction is not None:
            return False
        blobs = self._parser.take(form.template)
        if blobs is None:
            return False
        if not self._predict(form, blobs):
            self._take(form.arguments(blobs))
        return True

    def _all_taken(self) -> None:
        """Reads on, if there is more to come."""
        if self._backlog > _BACKLOG_BYTES:
            self.reading.release(Reason.BACKLOG)
        self._backlog = 0
        if self._ended:
            self.finish()

    def _go_on(self) -> None:
        self._rests = False
        self.engine.touch(self)

    def _take(self, arguments: list[bytes]) -> None:
        name = arguments[0]
        row = _ROWS.get(name) or _ROWS.get(name.upper())
        if row is not None and row.concerns is not None and not row.concerns(arguments):
            row = None
        if self.transaction is not None and (row is None or row.in_transaction is not InTransaction.NOW):
            self._queue(row, arguments)
        elif row is not None:
            self._begin(row, arguments)
        else:
            names = self.engine.models.names
            if names and (not names.isdisjoint(arguments) or name.upper() in TOUCH_ALL):
                self._start(Task(self, touching(self, arguments), self._task_ended, silent=self._is_silent()))
            else:
                self._relay(self._further(name))

    def _further(self, name: bytes) -> int:
        """Counts the requests behind the present one that are relayed together with it."""
        if self.silence is not Silence.NONE:
            return 0
        if name in _relayed_names:
            return self._parser.extend(_relayed_names, self.engine.models.names)
        if len(_relayed_names) < _MAX_RELAYED_NAMES and name.upper() not in _LOOKED_AT:
            _relayed_names.add(name)
        return 0

    def _queue(self, row: Command | None, arguments: list[bytes]) -> None:
        """Takes a request between MULTI and EXEC."""
        assert self.transaction is not None
        if row is not None:
            body = queue(self, row, arguments)
            self._start(Task(self, body, self._task_ended, silent=self._is_silent()))
            return
        self.transaction.touched |= self.engine.models.names.intersection(arguments)
        self.transaction.touches_all |= arguments[0].upper() in TOUCH_ALL
        self.transaction.entries.append(Entry())
        self._relay()

    def _begin(self, row: Command, arguments: list[bytes]) -> None:
        """Begins with a command of the table."""
        if row.waits and self._places:
            self._busy = self._delayed = (row, arguments)
            return
        if row is _PING and self._pong():
            return
        if row is _PREDICTION:
            form = self._prepared.find(arguments)
            if form is not None and self._predict(form, form.blobs(arguments)):
                return
        silent = self._is_silent()
        if row.fits(len(arguments)):
            task = Task(self, row.body(self, arguments), self._task_ended, silent=silent)
            self._start(task, busy=not row.single_step)
        elif not silent:
            self._places.append(Ready(replies.error(row.arity_text)))

    def _predict(self, form: PreparedDag, blobs: list[bytes]) -> bool:
        """Takes the short way if the request needs nothing of Redis."""
        run = form.run(self, blobs)
        if run is None:
            return False
        run.silent = self._is_silent()
        self._places.append(run)
        return True

    def _pong(self) -> bool:
        """Answers PING if Redis did so lately."""
        if not self.rights.has(*PONG_RIGHT) or self.streams:
            return False
        if not self._is_silent():
            self._places.append(_PONG)
        return True

    def _start(self, task: Task, *, busy: bool = True) -> None:
        self._places.append(task)
        self._busy = task if busy else None
        task.go_on()

    def _is_silent(self) -> bool:
        """Tells whether the present request's reply is dropped (CLIENT REPLY)."""
        if self.silence is _SPEAKING:
            return False
        if self.silence is Silence.SKIP:
            self.silence = Silence.NONE
            return True
        return self.silence is Silence.OFF

    def _relay(self, further: int = 0) -> None:
        """Passes the present request on, and `further` ones that the parser took with it."""
        silent = self._is_silent()
        last = self._places[-1] if self._places else None
        upstream = self.upstream
        if not isinstance(last, Relayed) or last.silent != silent or not upstream.is_last(last):
            last = Relayed(silent=silent)
            self._places.append(last)
        upstream.relay(self._parser.raw, last, 1 + further)

    def proceed(self, task: Task) -> None:
        """A task needs Redis no more: later requests may begin."""
        if self._busy is task:
            self._busy = None
            self.engine.touch(self)

    def _task_ended(self, task: Task) -> None:
        if self._busy is task:
            self._busy = None
        self.engine.touch(self)

    def carry_out(self, body: Plan, done: Callable[[bytes], None]) -> None:
        """Carries out a body in the midst of the command that is running; `done` gets its reply, come what may."""

        def ended(part: Task) -> None:
            self._parts.discard(part)
            done(part.reply or b"")

        part = Task(self, body, ended, silent=False)
        self._parts.add(part)
        if self._lost:
            part.end(self._lost)
        else:
            part.go_on()

    def _lose(self, reason: str) -> None:
        """Nothing comes from Redis any more."""
        self._lost = replies.error(reason)
        for part in list(self._parts):
            part.end(self._lost)

    # Replies

    def relayed(self, entry: Relayed, data: bytes) -> None:
        """Takes bytes of relayed replies from Redis."""
        if entry.silent:
            pass
        elif self._places and self._places[0] is entry:
            self._out.add(data)
        else:
            entry.held.append(data)
            self._held_size += len(data)
            if self._held_size > _HELD_BYTES:
                self.upstream.reading.hold(Reason.HELD_REPLIES)
        self.engine.touch(self)

    def pushed(self, data: bytes) -> None:
        """Takes a message that belongs to no command. As in Redis, CLIENT REPLY OFF doesn't stop RESP3's."""
        if self.silence is not Silence.OFF or data[:1] == b">" or is_confirmation(data):
            self._out.add(data)
        self.engine.touch(self)

    def flush(self) -> None:
        """Writes what is ready, to the client and to Redis."""
        self._collect()
        if self._delayed is not None and not self._places:
            self.engine.touch(self)
        if self._upstream is not None:
            self._upstream.flush()
        transport = self._transport
        if transport is None:
            return
        if self._out:
            if transport.get_write_buffer_size() > self.engine.settings.output_limit:
                self._close_slow(transport)
                return
            self._out.write(transport)
        if self._output_is_full:
            self._hold_redis(transport)
        if self._closing:
            self._end(transport)

    def _hold_redis(self, transport: asyncio.Transport) -> None:
        """Leaves replies in Redis while the client doesn't read, unless a command waits for its own among them."""
        if len(self._places) > _MOST_WAITING:
            self._close_slow(transport)
        elif self._upstream is not None:
            reading = self._upstream.reading
            (reading.hold if self._busy is None else reading.release)(Reason.SLOW_CLIENT)

    def _close_slow(self, transport: asyncio.Transport) -> None:
        _log.warning("a client was closed because it didn't read its replies (see --output-limit)")
        transport.abort()

    def _end(self, transport: asyncio.Transport) -> None:
        """Closes when all that is due is answered."""
        if not self._places:
            transport.close()
        elif self._finishing and self._busy is None:
            self.upstream.finish()

    def _collect(self) -> None:
        """Moves the replies that are ready from the front of the places to the output."""
        places = self._places
        while places:
            first = places[0]
            if isinstance(first, Relayed):
                if first.held:
                    self._release(first)
                if first.count:
                    return
            elif first.reply is None:
                return
            elif not first.silent:
                self._out.add(first.reply)
            places.popleft()

    def _release(self, entry: Relayed) -> None:
        """Moves relayed replies whose turn it is to the output."""
        for data in entry.held:
            self._out.add(data)
        self._held_size -= sum(map(len, entry.held))
        entry.held.clear()
        if self._held_size <= _HELD_BYTES:
            self.upstream.reading.release(Reason.HELD_REPLIES)

    def _refuse(self, text: str) -> None:
        """Answers an error behind everything that is due, and closes."""
        self._closing = True
        self._places.append(Ready(replies.error(text)))
        self.engine.touch(self)

    def fail(self) -> None:
        """Answer a request that failed by the engine's own mistake, and take no more: its place may be lost."""
        _log.exception("a connection failed in a way that is the engine's fault")
        self._busy = self._delayed = None
        self._refuse(texts.ENGINE_FAILED)

    def abort(self) -> None:
        """Ends the connection at once: its replies can't be written."""
        _log.exception("a connection's replies failed in a way that is the engine's fault")
        if self._transport is not None:
            self._transport.abort()

    def upstream_lost(self, reason: str, *, in_reply: bool) -> None:
        """
        Redis is gone: what is due gets an error, and the client has to connect anew.

        There is none behind a part of a reply (`in_reply`), where it would look like the reply's rest, and none for a
        client that has ended its side: then Redis has closed as it was told to.
        """
        self._lose(reason)
        error = b"" if self._finishing else replies.error(reason)
        for place in list(self._places):
            if not isinstance(place, Relayed):
                if not (self._finishing and place.is_detached):
                    place.end(error)
            elif place.count:
                place.count = 0
                if in_reply:
                    error = b""
                elif not place.silent:
                    place.held.append(error)
        self._busy = self._delayed = None
        self._closing = True
        self.engine.touch(self)

    # Protocol's interface

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports are of no common class
        self._transport = transport
        self.reading.attach(transport)
        self._sessions.add(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        self._backlog += len(data)
        if self._backlog > _BACKLOG_BYTES:
            self.reading.hold(Reason.BACKLOG)
        self.engine.touch(self)

    def eof_received(self) -> bool:
        """The client sends no more, but may still read; TLS has no such state."""
        self._ended = True
        self.engine.touch(self)
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._transport = None
        self._sessions.discard(self)
        self._lose("ERR the client has closed its connection")
        if self._upstream is not None:
            self._upstream.close()

    def pause_writing(self) -> None:
        """The client reads too slowly; what that means `flush` sees to."""
        self._output_is_full = True
        self.engine.touch(self)

    def resume_writing(self) -> None:
        self._output_is_full = False
        if self._upstream is not None:
            self._upstream.reading.release(Reason.SLOW_CLIENT)
        self.engine.touch(self)

    def close(self) -> None:
        """Takes no more requests, and closes when those that have begun are answered."""
        self._closing = True
        self.engine.touch(self)

    def finish(self) -> None:
        """As close(), but doesn't wait for commands that block in Redis."""
        if self._delayed is not None:
            self._delayed = self._busy = None
        self._finishing = True
        self.close()
