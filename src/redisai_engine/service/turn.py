"""
The turn of the event loop, which serves all connections that have something to do together.

Theory of operation. Callbacks of the event loop only read and parse. A connection that has something to do is
*touched*. At the end of each turn of the loop, `_end` takes all touched connections through three phases: it dispatches
their requests, runs the short models (`Executor.run_turn`), and writes their replies, once per connection. Doing the
same kind of work for all connections in a row keeps the processor's caches warm, which doubles the throughput of many
connections.

Invariant: a failure in a turn never keeps it from ending or later turns from taking place. A connection that failed is
closed.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Protocol

from redisai_engine.execution.executor import Executor
from redisai_engine.service.polling import BusyPolling

_log = logging.getLogger(__name__)


class Participant(Protocol):
    """A connection, as the turn sees it."""

    def dispatch(self) -> None:
        """Start every request that may start now."""

    def flush(self) -> None:
        """Write the replies that are ready."""

    def fail(self) -> None:
        """Answer with an error and close, after `dispatch` has raised. Called while the exception is being handled."""

    def abort(self) -> None:
        """Close at once, after `flush` has raised. Called while the exception is being handled."""


class Sender(Protocol):
    """A connection to Redis that serves several clients."""

    def flush(self) -> None:
        """Write what was asked in this turn."""

    def fail(self) -> None:
        """Tell those who wait that they get no answer, after `flush` has raised."""


class Turn:
    """The turns of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, executor: Executor, polling: BusyPolling) -> None:
        self._loop = loop
        self._executor = executor
        self._polling = polling
        self._touched: list[Participant] = []
        self._answered: list[Participant] = []
        self._senders: list[Sender] = []
        self._is_planned = False
        self.has_many = False  # a participant of this turn serves several clients
        #: When the current turn began, or the last one: what is taken in it has been there since.
        self.began_at = 0.0

    def touch(self, connection: Participant) -> None:
        """Serve `connection` at the end of this turn."""
        self._touched.append(connection)
        if not self._is_planned:
            self.plan()

    def answered(self, connection: Participant) -> None:
        """Have `connection` write at the end of this turn, without dispatching: no request waits for its reply."""
        self._answered.append(connection)
        if not self._is_planned:
            self.plan()

    def sends(self, sender: Sender) -> None:
        """Have `sender` write at the end of this turn, before all others: Redis then works while they write."""
        self._senders.append(sender)
        if not self._is_planned:
            self.plan()

    def plan(self) -> None:
        """Schedule the end of a turn after the current callbacks, which also runs submitted jobs."""
        if not self._is_planned:
            self._is_planned = self._polling.is_due = True
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        written: dict[Participant, None] = {}  # a dictionary is a set that keeps the order
        failed: set[Participant] = set()
        self.began_at = monotonic()
        try:
            while True:
                touched, self._touched = dict.fromkeys(self._touched), []
                for connection in touched:
                    try:
                        connection.dispatch()
                    except Exception:  # must not affect other connections or later turns
                        self._fail(connection, failed)
                self._run_models()  # finished runs touch connections again, which then have a reply or more to do
                written = written | touched if written else touched
                if not self._touched:
                    break
        finally:
            # From here on a touch plans another turn. Until here, the loop above has taken care of it.
            self._is_planned = self._polling.is_due = False
        if self._answered:
            written.update(dict.fromkeys(self._answered))
            self._answered.clear()
        if self._senders:
            self._send()
        for connection in written:
            try:
                connection.flush()
            except Exception:
                self._abort(connection)
        if len(written) == 1 and not self.has_many:
            self._stay_awake()
        self.has_many = False

    def _stay_awake(self) -> None:
        is_elsewhere = self._executor.waits_elsewhere
        if is_elsewhere or not self._executor.is_running:
            self._polling.turn_ended(self.began_at, is_elsewhere=is_elsewhere)

    def _fail(self, connection: Participant, failed: set[Participant]) -> None:
        """End a connection whose `dispatch` has raised. One that does so twice in a turn isn't even answered."""
        if connection in failed:
            self._abort(connection)
            self._touched = [other for other in self._touched if other is not connection]
            return
        failed.add(connection)
        try:
            connection.fail()
        except Exception:
            self._abort(connection)

    def _send(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            try:
                sender.flush()
            except Exception:
                _log.exception("a shared connection to Redis failed because of a bug in the engine")
                sender.fail()

    @staticmethod
    def _abort(connection: Participant) -> None:
        try:
            connection.abort()
        except Exception:
            _log.exception("a connection that failed can't be closed")

    def _run_models(self) -> None:
        try:
            self._executor.run_turn()
        except Exception as error:
            self._loop.call_exception_handler({"message": "the models of a turn failed to run", "exception": error})
