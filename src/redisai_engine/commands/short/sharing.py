"""
Short ways that ask on the connection that clients share, if this client may, or else on the client's own.

Only what is small goes over the shared one, since a large reply would hold up all others: a key is known as small once
a small tensor was read from it or written to it. If the connection ends, what was to be read is read on the client's
own; what was to be written is never sent twice, so the client's connection ends, too.

What is read or written there is kept in memory (`service/memory/tensors.py`), so that it need not be asked for again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redisai_engine.commands.client import Client
from redisai_engine.commands.short.stored import StoredTensor
from redisai_engine.commands.task import ShortWay
from redisai_engine.commands.tensor_script import DIGEST, WRITTEN, WRITTEN_AND_READ
from redisai_engine.protocol import replies
from redisai_engine.service.memory.tensors import AskedAt, KeptTensors
from redisai_engine.service.shared import SharedConnection

MOST_SHARED: Final = 16 * 1024  # bytes of replies, or of values

_LET_IN: Final = (b"", b"LET IN")  # the right to do anything at all
_LASTS: Final = b":-1\r\n"  # the reply to PTTL about a key that doesn't expire

#: An argument behind the script's values, so that it reads the keys.
AND_READ: Final = b"$4\r\nREAD\r\n"


def script_before(keys: Sequence[bytes], *, more: int = 0) -> bytes:
    """Return the start of a call of the script, up to the values of so many keys and `more` arguments."""
    before = b"*%d\r\n$7\r\nEVALSHA\r\n%b" % (3 + 2 * len(keys) + more, replies.bulk(DIGEST))
    return before + replies.bulk(b"%d" % len(keys)) + b"".join([replies.bulk(key) for key in keys])


def reading(key: bytes) -> bytes:
    """Return two commands, after which a tensor can be kept: what a key holds, and whether it expires."""
    return replies.command(b"GET", key) + replies.command(b"PTTL", key)


class SharingWay(ShortWay):
    """A short way on the connection `shared`; None if it has to take the client's own."""

    def __init__(
        self, client: Client, request: Sequence[bytes], shared: SharedConnection | None, *, busy: bool
    ) -> None:
        super().__init__(client, request, busy=busy)
        self.shared = shared
        self.asked: AskedAt | None = None  # on the shared connection, which then keeps what it shows
        self.reads_back = False  # what is written, so that it can be kept
        self._writes = False  # what was asked last

    @property
    def keeps(self) -> KeptTensors | None:
        """What this way may find in memory, and keep there; None if nothing is to be kept."""
        shared = self.shared
        if shared is None or not shared.kept.is_on or shared.kept.rests(self._began_at):
            return None
        return shared.kept

    def ask(self, requests: bytes, count: int, *, most: int | None = None, refusal: str = "") -> None:
        """Ask for what changes nothing. `most` and `refusal` hold on the client's own connection."""
        self._writes = False
        if self.shared is None:
            self._client.upstream.ask_encoded(requests, count, self.answered, reads=True, most=most, refusal=refusal)
        else:
            self._note()
            self.shared.ask(self, requests, count, self.answered, reads=True, most=MOST_SHARED)

    def read(self, kept: KeptTensors, keys: Sequence[bytes], requests: bytes) -> None:
        """Ask for what these keys hold, and whether they expire, to keep it."""
        self.ask(requests, 2 * len(keys))
        assert self.asked is not None
        for key in keys:
            kept.reading(key, self.asked)

    def write(self, requests: bytes, count: int) -> None:
        self._writes = True
        if self.shared is None:
            self._client.upstream.ask_encoded(requests, count, self.answered)
        else:
            self._client.wrote_apart = True
            if self.reads_back:
                self._note()
            else:
                self.asked = None
            self.shared.ask(self, requests, count, self.answered)

    def _note(self) -> None:
        kept = self.keeps
        self.asked = None if kept is None else kept.asking(self._began_at)

    def answered(self, got: list[Any]) -> None:
        shared = self.shared
        if shared is not None:
            shared.answered(self)
            if self.asked is not None:
                shared.kept.answered(self.asked)
                self.settle(shared.kept, self.asked, got)
            elif self._writes and shared.kept.is_on:
                for key in self.written:
                    shared.kept.forget(key)
        if not self._client.lost:
            super().answered(got)

    @property
    def written(self) -> Sequence[bytes]:
        """The keys that it writes."""
        raise NotImplementedError

    def settle(self, kept: KeptTensors, asked: AskedAt, got: list[bytes]) -> None:
        """Take what Redis' answer says of kept tensors. Called even if the client has left."""
        raise NotImplementedError

    def settle_written(self, kept: KeptTensors, asked: AskedAt, tensors: Sequence[StoredTensor], reply: bytes) -> None:
        """Keep what the script has written and read back, by its reply."""
        if reply == WRITTEN_AND_READ:
            for key, tensor in zip(self.written, tensors):  # noqa: B905  # one for each
                kept.has_written(key, tensor, tensor.size, asked)
            return
        for key in self.written:
            kept.forget(key)
        if reply == WRITTEN:  # the user may not read: it would be refused, and noted in ACL LOG, again
            kept.end()

    def begin_apart(self) -> None:
        """Begin again on the client's own connection, on which whatever isn't the plain case is handled."""
        self.shared = self.asked = None
        self.begin()
        self._client.answered()  # so that it is sent at the end of this turn

    def shared_lost(self, reason: str, *, by_redis: bool) -> None:
        if self.reply is not None or self._client.lost:
            return
        if self._writes:
            self._client.end_with_redis(reason, by_redis=by_redis)
        else:
            self.begin_apart()


def keep(kept: KeptTensors, key: bytes, tensor: StoredTensor, asked: AskedAt) -> None:
    kept.keep(key, tensor, tensor.size, asked)


def may_keep(kept: KeptTensors, key: bytes, asked: AskedAt, held: bytes, expiry: bytes) -> bool:
    """Return whether what was read can be kept, by the replies to `reading`. Call it once for each key."""
    if expiry.startswith(b"-") and not held.startswith(b"-"):  # the user may not ask for it
        kept.end()
    return kept.has_read(key, asked) and expiry == _LASTS


def let_in(client: Client) -> None:
    """Record that Redis has just carried out a command on the client's own connection."""
    client.rights.grant(*_LET_IN)


def shared_for(client: Client) -> SharedConnection | None:
    """Return the shared connection if this client's request may take it; None if not."""
    return client.shared if client.may_trust and client.rights.has(*_LET_IN) else None
