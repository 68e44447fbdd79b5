"""
The pending replies of one connection, in the order of the requests.

Theory of operation. Every request has an entry here: a command in progress, a run of relayed commands, or a reply that
was ready at once. Ready replies at the front move to the output. A relayed reply at the front moves chunk by chunk; the
chunks of later ones are held until they reach the front.

Invariant: replies leave in the order of the entries, each exactly once.
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

from redisai_engine.commands.ai.prepared import PreparedRun
from redisai_engine.commands.task import ShortWay, Task
from redisai_engine.fronts.resp.output import OutputBuffer
from redisai_engine.redis.upstream import Relayed

_MOST_WAITING: Final = 100_000  # unanswered requests of one connection, about 1 KB each; beyond that none are started
_HELD_BYTES: Final = 2**20  # of later replies, read from Redis while an earlier one isn't ready; then Redis has to wait


class Ready:
    """A reply that is complete from the start."""

    __slots__ = ("is_detached", "reply", "silent")

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.silent = False
        self.is_detached = True

    def end(self, reply: bytes) -> None:
        """Do nothing: the reply is final."""


Pending: TypeAlias = Task | PreparedRun | ShortWay | Relayed | Ready


class PendingReplies:
    """The pending replies of one connection."""

    def __init__(self) -> None:
        self._due: deque[Pending] = deque()
        self._held_size = 0  # bytes of relayed replies that wait for earlier ones

    @property
    def is_empty(self) -> bool:
        return not self._due

    @property
    def are_too_many(self) -> bool:
        """Whether no more requests should start until some are answered."""
        return len(self._due) > _MOST_WAITING

    def add(self, entry: Pending) -> None:
        self._due.append(entry)

    @property
    def last(self) -> Pending | None:
        return self._due[-1] if self._due else None

    @property
    def hold_too_much(self) -> bool:
        """Whether Redis should keep its further replies for now."""
        return self._held_size > _HELD_BYTES

    def take(self, entry: Relayed, data: bytes, out: OutputBuffer) -> None:
        """Accept bytes of relayed replies from Redis."""
        if entry.silent:
            return
        if self._due and self._due[0] is entry:
            out.add(data)
        else:
            entry.held.append(data)
            self._held_size += len(data)

    def collect(self, out: OutputBuffer) -> None:
        """Move the replies that are ready from the front to the output."""
        due = self._due
        while due:
            first = due[0]
            if isinstance(first, Relayed):
                if first.held:
                    self._release(first, out)
                if first.count:  # Redis still owes some of its replies
                    return
            elif first.reply is None:
                return
            elif not first.silent:
                out.add(first.reply)
            due.popleft()

    def _release(self, entry: Relayed, out: OutputBuffer) -> None:
        for data in entry.held:
            out.add(data)
        self._held_size -= sum(map(len, entry.held))
        entry.held.clear()

    def cut(self) -> None:
        """Leave the first reply that waits for Redis, and all behind it, without an answer."""
        whole = 0
        for entry in self._due:
            if entry.count if isinstance(entry, Relayed) else not entry.is_detached:
                break
            whole += 1
        while len(self._due) > whole:
            entry = self._due.pop()
            if not isinstance(entry, Relayed):
                entry.end(b"")
            elif len(self._due) == whole:  # what has come of it is as good as sent
                entry.count = 0
                self._due.append(entry)
                break

    def lose(self, error: bytes, *, in_reply: bool) -> None:
        """
        End all pending replies with an error, because Redis is given up.

        If part of a relayed reply has already been sent (`in_reply`), no error follows: it would look like the rest of
        that reply.
        """
        for entry in list(self._due):
            if not isinstance(entry, Relayed):
                entry.end(error)
            elif entry.count:
                entry.count = 0
                if in_reply:
                    error = b""
                elif not entry.silent:
                    entry.held.append(error)
