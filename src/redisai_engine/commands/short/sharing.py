"""
Short ways that ask on the connection that clients share, if this client may, or else on the client's own.

Only what is small goes over the shared one, since a large reply would hold up all others: a key is known as small once
a small tensor was read from it or written to it. If the connection ends, what was to be read is read on the client's
own; what was to be written is never sent twice, so the client's connection ends, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redisai_engine.commands.client import Client
from redisai_engine.commands.task import ShortWay
from redisai_engine.service.shared import SharedConnection

MOST_SHARED: Final = 16 * 1024  # bytes of replies, or of values

_LET_IN: Final = (b"", b"LET IN")  # the right to do anything at all


class SharingWay(ShortWay):
    """A short way on the connection `shared`; None if it has to take the client's own."""

    def __init__(
        self, client: Client, request: Sequence[bytes], shared: SharedConnection | None, *, busy: bool
    ) -> None:
        super().__init__(client, request, busy=busy)
        self.shared = shared
        self._writes = False  # what was asked last

    def ask(self, requests: bytes, count: int, *, most: int | None = None, refusal: str = "") -> None:
        """Ask for what changes nothing. `most` and `refusal` hold on the client's own connection."""
        self._writes = False
        if self.shared is None:
            self._client.upstream.ask_encoded(requests, count, self.answered, most=most, refusal=refusal)
        else:
            self.shared.ask(self, requests, count, self.answered, most=MOST_SHARED)

    def write(self, requests: bytes, count: int) -> None:
        self._writes = True
        if self.shared is None:
            self._client.upstream.ask_encoded(requests, count, self.answered)
        else:
            self._client.wrote_apart = True
            self.shared.ask(self, requests, count, self.answered)

    def answered(self, got: list[Any]) -> None:
        if self.shared is not None:
            self.shared.answered(self)
        if not self._client.lost:
            super().answered(got)

    def begin_apart(self) -> None:
        """Begin again on the client's own connection, on which whatever isn't the plain case is handled."""
        self.shared = None
        self.begin()
        self._client.answered()  # so that it is sent at the end of this turn

    def shared_lost(self, reason: str, *, by_redis: bool) -> None:
        if self.reply is not None or self._client.lost:
            return
        if self._writes:
            self._client.end_with_redis(reason, by_redis=by_redis)
        else:
            self.begin_apart()


def let_in(client: Client) -> None:
    """Record that Redis has just carried out a command on the client's own connection."""
    client.rights.grant(*_LET_IN)


def shared_for(client: Client) -> SharedConnection | None:
    """Return the shared connection if this client's request may take it; None if not."""
    return client.shared if client.may_trust and client.rights.has(*_LET_IN) else None
