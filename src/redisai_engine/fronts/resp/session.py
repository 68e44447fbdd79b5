"""
One client connection: requests in, replies out, in order.

Theory of operation. A request is either relayed to Redis unchanged or carried out as a task (a command of the table).
Each has an entry among the pending replies (`pending.py`). Everything that is ready at the front is written once per
turn.

All commands of a client, the parts of AI commands included, go to Redis over one connection that belongs to this
client, so Redis sees them in the client's order. While a task may still need Redis, later requests wait, just as they
wait in Redis behind a blocked client.

A client that has not logged in may send only what Redis takes of it (`Limits`). Its login shows by the replies to AUTH
and HELLO. A client that sends neither is taken for one that has not logged in until it sends more; only then Redis is
asked, once, so most clients cost no round trip.

In protected mode a client of another machine is let in only if Redis asks it for a password. Redis is asked before the
client's first request is looked at, once for each connection.

Backpressure. A client may write a whole pipeline before it reads the first reply, so its requests are taken while its
replies wait. Replies of Redis then wait in Redis: the engine doesn't read them, unless a command of the engine's own
needs its answer to go on. What waits here is bounded by `output-limit`; beyond it the connection is closed, as Redis
does.

A client that shuts down its sending side still gets its pending replies. Then Redis is told that nothing more comes, so
that a command that blocks there ends, too.

Invariant: `dispatch` and `flush` run only in a turn of the engine; callbacks only touch.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, TypeAlias, cast

from redisai_engine.commands.ai.prepared import PreparedDag, PreparedDags
from redisai_engine.commands.connection import ConnectedClient, Silence
from redisai_engine.commands.invalidation import CHANGES_ANY_KEY, relay_and_invalidate, renamed_keys
from redisai_engine.commands.plain.connection import PONG_RIGHT, admission, is_admitted, protection
from redisai_engine.commands.plain.streams import is_confirmation
from redisai_engine.commands.plain.transactions import queue
from redisai_engine.commands.short.run import short_run
from redisai_engine.commands.short.tensors import short_get, short_set
from redisai_engine.commands.steps import Plan, fail
from redisai_engine.commands.table import COMMANDS, CONNECTION_COMMANDS, PLAIN_COMMANDS, Command, InTransaction
from redisai_engine.commands.task import ShortWay, Task
from redisai_engine.commands.transaction import Entry
from redisai_engine.errors import CommandError
from redisai_engine.fronts.peer import is_on_this_machine
from redisai_engine.fronts.resp.output import OutputBuffer
from redisai_engine.fronts.resp.pending import PendingReplies, Ready
from redisai_engine.fronts.resp.relayed_names import FAMILIES, HOLD_UP_REDIS, RelayedNames, is_stateless
from redisai_engine.protocol import replies, texts
from redisai_engine.protocol.errors import ProtocolError, TooLargeBeforeLogin
from redisai_engine.protocol.requests import MAX_SPLIT_BYTES, RequestParser
from redisai_engine.redis.backpressure import Reading, Reason
from redisai_engine.redis.upstream import Relayed, Upstream
from redisai_engine.redis.window import ReplyWindow
from redisai_engine.service.engine import Engine

_log = logging.getLogger(__name__)

_REQUESTS_PER_TURN: Final = 256  # of one connection, so that a large pipeline doesn't keep the others waiting
_BACKLOG_BYTES: Final = 2**20  # of requests that are read before the earlier ones have started
_LONG_REQUEST_BYTES: Final = 2**17  # of one with many arguments that are read in a turn

Row: TypeAlias = Command[ConnectedClient]
# The imports above include modules of the packages `ai` and `plain`, so all commands are in these tables by now.
ROWS: dict[bytes, Row] = {**COMMANDS, **PLAIN_COMMANDS, **CONNECTION_COMMANDS}
LOOKED_AT = frozenset(CHANGES_ANY_KEY | HOLD_UP_REDIS | FAMILIES.keys() | ROWS.keys())
_PREDICTION = COMMANDS[b"AI.DAGEXECUTE_RO"]
_SET, _EXECUTE, _GET = COMMANDS[b"AI.TENSORSET"], COMMANDS[b"AI.MODELEXECUTE"], COMMANDS[b"AI.TENSORGET"]
_PING = CONNECTION_COMMANDS[b"PING"]
_PONG = Ready(replies.PONG)
_SPEAKING = Silence.NONE  # a global, because looking into an enum takes longer than the rest of `_is_silent`


class Session:
    """
    The client's side of a connection.

    An asyncio.Protocol in all but the base class, which would prevent mypyc from compiling it to a native class.
    """

    def __init__(self, engine: Engine, sessions: set[Session], relayed_names: RelayedNames) -> None:
        self.reading = Reading()
        self._engine = engine
        self._sessions = sessions
        self._relayed_names = relayed_names
        self._names = relayed_names.stateless  # those of which nothing needs to be known for this connection
        self._client = ConnectedClient(engine, self)
        self.transport: asyncio.Transport | None = None
        self._parser = RequestParser(self._client.limits)
        self._prepared = PreparedDags()
        # Replies that are pending, and bytes that are ready to be written
        self._pending = PendingReplies()
        self._out = OutputBuffer()
        self._output_is_full = False  # the client reads more slowly than it is answered
        # What later requests wait for besides the client's task
        self._delayed: tuple[Row, list[bytes]] | None = None
        self._rests = False  # until the next turn, because it has had its share of this one
        self._redis_waits = False  # its replies aren't read, because too many bytes are held for earlier ones
        self._window = ReplyWindow(engine.settings.output_limit)
        self._redis_owes = False  # so many replies that no more requests are taken until some have come
        self._backlog = 0  # bytes received since all requests were last taken
        # How it ends
        self._ended = False  # the client has shut down its sending side
        self._finishing = False  # `finish` was called: Redis, too, will be told that nothing more comes

    # Requests

    def dispatch(self) -> None:
        """Start every request that may start now."""
        if self._delayed is not None and self._pending.is_empty:
            row, delayed = self._delayed
            self._delayed = None
            self._begin(row, delayed)
        for _ in range(_REQUESTS_PER_TURN):
            if self._is_busy() or self._client.is_closing or self._rests or self._redis_owes:
                return
            if self._pending.are_too_many:
                return
            if self._take_another():
                continue
            try:
                arguments = self._parser.next()
            except TooLargeBeforeLogin as error:
                if not is_admitted(self._client):
                    self._start(admission(self._client, error.text))
                continue
            except ProtocolError as error:
                self._refuse(f"ERR {error.text}")
                return
            if arguments is None:
                self._all_taken()
                return
            self._take(arguments)
        # There may be more requests in the buffer; the other connections have their turn first.
        self._rests = True
        self._engine.loop.call_soon(self._go_on)

    def _is_busy(self) -> bool:
        """Return whether requests must wait for an earlier one."""
        task = self._client.task
        if task is None:
            return self._delayed is not None
        if not task.is_detached:
            return True
        self._client.task = None  # it has ended, or needs nothing more from Redis: later requests may pass it
        return self._delayed is not None

    def _take_another(self) -> bool:
        """Take the next request straight out of the bytes if it is a prediction of the same form as the latest."""
        form = self._prepared.latest
        if form is None or self._client.transaction is not None:
            return False
        blobs = self._parser.take(form.template)
        if blobs is None:
            return False
        if not self._predict(form, blobs):  # the bytes are consumed, so its arguments are put together again
            self._take(form.arguments(blobs))
        return True

    def _all_taken(self) -> None:
        """Keep nothing large of what was taken, and continue reading, if the backlog had stopped it."""
        if self._backlog > MAX_SPLIT_BYTES:
            self._parser.forget()
            self._engine.loader.expect(self._parser.begun)
        if self._backlog > _LONG_REQUEST_BYTES:
            self.reading.release(Reason.BACKLOG)
        self._backlog = 0
        if self._ended:
            self.finish()

    def _go_on(self) -> None:
        self._rests = False
        self._client.touch()

    def _take(self, arguments: list[bytes]) -> None:
        name = arguments[0]
        # Most clients send names in upper case; looking those up unchanged saves a copy.
        row = ROWS.get(name) or ROWS.get(name.upper())
        if row is not None and row.concerns is not None and not row.concerns(arguments):
            row = None
        if self._client.transaction is not None and (row is None or row.in_transaction is not InTransaction.NOW):
            self._queue(row, arguments)
        elif row is not None:
            self._begin(row, arguments)
        else:
            # The engine must see the reply to a command that may change a known model's key. The rest is just relayed.
            tracked = self._engine.models.tracked_keys
            if tracked and (not tracked.isdisjoint(arguments) or name.upper() in CHANGES_ANY_KEY):
                self._start(relay_and_invalidate(self._client, arguments))
                self._look_at_relayed(arguments)
            elif name in self._names:
                self._relay(self._further())
            else:
                self._relay()
                self._look_at_relayed(arguments)

    def _further(self) -> int:
        """Count the requests behind the current one that are relayed together with it."""
        if self._client.silence is not _SPEAKING:
            return 0
        most = self._window.size - self._client.upstream.due - 1
        return self._parser.extend(self._names, self._engine.models.tracked_keys, most) if most > 0 else 0

    def _look_at_relayed(self, arguments: list[bytes]) -> None:
        """Look at a request that has just been sent to Redis."""
        if arguments[0].upper() in HOLD_UP_REDIS:
            self._client.upstream.holds_up()
        else:
            self._relayed_names.add(arguments[0])
        if not is_stateless(arguments):
            self._client.may_share = False
            self._names = self._relayed_names.names

    def _queue(self, row: Row | None, arguments: list[bytes]) -> None:
        """Take a request between MULTI and EXEC."""
        transaction = self._client.transaction
        assert transaction is not None
        if row is not None:
            self._start(queue(self._client, row, arguments))
            return
        transaction.changed_keys |= self._engine.models.tracked_keys.intersection(arguments)
        transaction.changes_any_key |= arguments[0].upper() in CHANGES_ANY_KEY
        transaction.entries.append(Entry(renames=renamed_keys(arguments)))
        self._client.may_share = self._client.may_share and is_stateless(arguments)
        self._relay()

    def _begin(self, row: Row, arguments: list[bytes]) -> None:
        """Start a command of the table."""
        if row.waits and not self._pending.is_empty:
            self._delayed = (row, arguments)
            return
        if row is _PING and self._pong():
            return
        if row is _PREDICTION:
            form = self._prepared.find(arguments)
            if form is not None and self._predict(form, form.blobs(arguments)):
                return
        short = self._short_way(row, arguments)
        if short is not None:
            self._start_short(short)
            return
        try:
            plan = row.plan(self._client, arguments)
        except CommandError as error:
            self._start(fail(error), request=arguments)
        else:
            single_step = row.single_step
            busy = not (single_step if isinstance(single_step, bool) else single_step(arguments))
            self._start(plan, busy=busy, request=arguments if busy else None)

    def _short_way(self, row: Row, arguments: list[bytes]) -> ShortWay | None:
        """Return the short way of a request if it has one."""
        if row is _SET:
            return short_set(self._client, arguments)
        if row is _EXECUTE:
            return short_run(self._client, arguments)
        return short_get(self._client, arguments, alone=not self._parser.has_more) if row is _GET else None

    def _start_short(self, short: ShortWay) -> None:
        short.silent = self._is_silent()
        self._pending.add(short)
        self._client.task = short if short.busy else None
        short.begin()
        self._look_at_debt(self._client.upstream)

    def _predict(self, form: PreparedDag, blobs: list[bytes]) -> bool:
        """Take the fast path if the request needs nothing from Redis. Return whether it was taken."""
        run = form.run(self._client, blobs)
        if run is None:
            return False
        run.silent = self._is_silent()
        self._pending.add(run)
        return True

    def _pong(self) -> bool:
        """Answer PING if Redis has done so recently. Return whether it was answered."""
        if not self._client.rights.has(*PONG_RIGHT) or self._client.streams:
            return False
        if not self._is_silent():
            self._pending.add(_PONG)
        return True

    def _start(self, body: Plan, *, busy: bool = True, request: list[bytes] | None = None) -> None:
        task = Task(self._client, body, self._task_ended, silent=self._is_silent(), request=request)
        self._pending.add(task)
        self._client.task = task if busy else None  # Redis answers in order, so nothing has to wait for a single step
        task.go_on()
        upstream = self._client.opened_upstream
        if upstream is not None:
            self._look_at_debt(upstream)

    def _look_at_debt(self, upstream: Upstream) -> None:
        """Take no more requests if Redis owes as many replies as it may."""
        self._redis_owes = upstream.due >= self._window.size
        if self._redis_owes:
            self._window.close(upstream.due, upstream.received)

    def _task_ended(self, task: Task) -> None:
        self._client.touch()

    def _is_silent(self) -> bool:
        """Return whether the current request's reply is dropped (CLIENT REPLY). SKIP ends with it."""
        silence = self._client.silence
        if silence is _SPEAKING:
            return False
        if silence is Silence.SKIP:
            self._client.silence = Silence.NONE
            return True
        return silence is Silence.OFF

    def _relay(self, further: int = 0) -> None:
        """Relay the current request, and `further` ones that the parser took with it."""
        silent = self._is_silent()
        last = self._pending.last
        upstream = self._client.upstream
        # A run of relayed commands shares one entry, unless something else was sent to Redis in between.
        if not isinstance(last, Relayed) or last.silent != silent or not upstream.is_last(last):
            last = Relayed(silent=silent)
            self._pending.add(last)
        upstream.relay(self._parser.raw, last, 1 + further)
        self._look_at_debt(upstream)

    # Replies

    def relayed(self, entry: Relayed, data: bytes) -> None:
        """Accept bytes of relayed replies from Redis."""
        self._pending.take(entry, data, self._out)
        if self._pending.hold_too_much:
            self._redis_waits = True
            self._client.upstream.reading.hold(Reason.HELD_REPLIES)
        self._client.touch()

    def pushed(self, data: bytes) -> None:
        """Accept a message that belongs to no command. As in Redis, CLIENT REPLY OFF doesn't stop RESP3's."""
        if self._client.silence is not Silence.OFF or data[:1] == b">" or is_confirmation(data):
            self._out.add(data)
        self._client.touch()

    def flush(self) -> None:
        """Write what is ready, to the client and to Redis."""
        self._pending.collect(self._out)
        if self._delayed is not None and self._pending.is_empty:
            self._client.touch()  # what the delayed command waited for is answered
        upstream = self._client.opened_upstream
        if upstream is not None:
            upstream.flush()
            if self._redis_owes and self._window.may_open(upstream.due):
                self._redis_owes = False
                self._window.open(upstream.due, upstream.received)
                self._client.touch()
            if self._redis_waits and not self._pending.hold_too_much:
                self._redis_waits = False
                upstream.reading.release(Reason.HELD_REPLIES)
        transport = self.transport
        if transport is None:
            return
        if self._out:
            if transport.get_write_buffer_size() + self._out.left > self._engine.settings.output_limit:
                self._close_slow(transport)
                return
            self._out.write(transport, is_full=self._output_is_full)
        elif self._out.left and not self._output_is_full:
            self._out.write_step(transport)
        if self._out.left and not self._output_is_full:
            self._client.touch()  # the transport has written the step already
        if self._output_is_full:
            self._hold_redis(transport)
        if self._client.is_closing:
            self._end(transport)

    def _hold_redis(self, transport: asyncio.Transport) -> None:
        """
        Leave replies in Redis while the client doesn't read, unless a command waits for its own among them.

        A client may also send all its requests before it reads. If it has sent many, its replies are kept here.
        """
        upstream = self._client.opened_upstream
        if self._pending.are_too_many:
            self._close_slow(transport)
        elif upstream is not None and (self._is_busy() or self._backlog > _BACKLOG_BYTES):
            upstream.reading.release(Reason.SLOW_CLIENT)
        elif upstream is not None:
            upstream.reading.hold(Reason.SLOW_CLIENT)

    def _close_slow(self, transport: asyncio.Transport) -> None:
        _log.warning("closed a client that didn't read its replies (see --output-limit)")
        transport.abort()

    def _end(self, transport: asyncio.Transport) -> None:
        """Close once everything pending is answered."""
        if self._out.left:
            return  # `resume_writing` touches the client
        if self._pending.is_empty:
            transport.close()
        elif self._finishing and not self._is_busy():
            self._client.upstream.finish()

    def _refuse(self, text: str) -> None:
        """Answer with an error behind everything that is pending, and close."""
        self._pending.add(Ready(replies.error(text)))
        self._client.close()

    def fail(self) -> None:
        """Answer for a bug in the engine, and take no more requests: their replies could be out of step."""
        _log.exception("a connection failed because of a bug in the engine")
        self._client.task = self._delayed = None
        begun = self._pending.last
        # It may be what failed, and then would never end.
        if isinstance(begun, Task | ShortWay) and begun.reply is None:
            begun.end(replies.error(texts.ENGINE_FAILED))
            self._client.close()
        else:
            self._refuse(texts.ENGINE_FAILED)

    def abort(self) -> None:
        """Close the connection at once: its replies can't be written."""
        _log.exception("writing a connection's replies failed because of a bug in the engine")
        if self.transport is not None:
            self.transport.abort()

    def upstream_lost(self, reason: str, *, in_reply: bool, by_redis: bool) -> None:
        """
        End everything that waits for Redis, and close: the client has to reconnect.

        As a client of Redis would, it sees only the end of its connection if Redis ends one. Clients take that for what
        it is and try again, which they don't after an error. There is an error if the engine has given up.
        """
        error = replies.error(reason)
        if by_redis:
            self._pending.cut()
        else:
            self._pending.lose(error, in_reply=in_reply)
        self._client.lose(error)
        self._client.task = self._delayed = None
        self._client.close()

    # Protocol's interface

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports don't derive from asyncio's
        self.transport = transport
        self._sessions.add(self)
        try:
            self.reading.attach(transport)
            if self._engine.settings.protected_mode and not is_on_this_machine(transport.get_extra_info("peername")):
                self._start(protection(self._client))
                self._client.touch()
        except Exception:  # the event loop would only log it
            self.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except Exception:
            self.fail()
            return
        self._backlog += len(data)
        if self._backlog > _LONG_REQUEST_BYTES and (self._parser.is_long or self._backlog > _BACKLOG_BYTES):
            self.reading.hold(Reason.BACKLOG)
        self._client.touch()

    def eof_received(self) -> bool:
        """Record that the client sends no more. It may still read, except over TLS, which has no such state."""
        self._ended = True
        self._client.touch()
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.is_closing = True
        self.transport = None
        self._sessions.discard(self)
        try:
            self._client.lose(replies.error("ERR the client has closed its connection"))
        finally:
            if self._client.opened_upstream is not None:
                self._client.opened_upstream.close()
                self._engine.liveness.forget(self._client.opened_upstream)
        # These may hold a large request, and this object lives on a while.
        self._parser, self._out = RequestParser(), OutputBuffer()

    def pause_writing(self) -> None:
        """Record that the client reads too slowly; `flush` acts on it."""
        self._output_is_full = True
        self._client.touch()

    def resume_writing(self) -> None:
        self._output_is_full = False
        if self._client.opened_upstream is not None:
            self._client.opened_upstream.reading.release(Reason.SLOW_CLIENT)
        self._client.touch()

    def finish(self) -> None:
        """Take no more requests and close once all are answered, but don't wait for commands that block in Redis."""
        self._delayed = None
        self._finishing = True
        self._client.close()
