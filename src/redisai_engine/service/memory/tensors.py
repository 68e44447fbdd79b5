"""
Small tensors in memory that Redis was last asked for, so that they need not be asked for again at once.

Theory of operation. A tensor is kept if it was written or read over the connection that clients share
(`service/shared.py`), for whose clients answers come in the order in which Redis has carried out their commands. Once
an answer has come on any other connection (`Arrivals`) to something that may have changed keys, nothing that was asked
for before counts any more.

With several workers, all this holds for what has arrived at any of them (`tallies.py`): what another worker's clients
were told has come elsewhere, over whichever connection.

Others change keys past the engine. Of that Redis tells on the shared connection, which has client tracking on, in
order with answers. But somebody may have learned of the change on another connection before that message has been read.
So once anything at all has arrived there, nothing counts until an answer has come on the shared one to a request that
was made after it: by then, what had changed before has been told. docs/decisions/0014-kept-tensors.md has the reasons.

Rights aren't checked here, and some changes aren't told. So nothing counts for longer than `SECONDS`.

Keeping what is written costs Redis a reading, so that it tells of changes. It is worth that for keys that are looked
for (`wants`). While so much arrives elsewhere that nothing is found, nothing is kept for a while (`rests`).

Invariant: what `find` returns is not older than anything that a client of this engine has been told. No more than
`MOST` bytes are kept, or `MOST_OF_LOGIN`.
"""

from __future__ import annotations

from typing import Any, Final

from redisai_engine.protocol.frames import decode
from redisai_engine.redis.traffic import Arrivals
from redisai_engine.service.memory.tallies import Tallies

SECONDS: Final = 1.0  # as remembered rights (`commands/rights.py`)
MOST: Final = 4 * 2**20  # bytes of all together
MOST_OF_LOGIN: Final = 2**18  # bytes of all that clients with one login read and write
MOST_ONE: Final = 16 * 1024  # bytes
_OVERHEAD: Final = 500  # bytes for each
_PATIENCE: Final = 8  # so often a key is written and kept, without being looked for in between
_IN_VAIN: Final = 8  # so much oftener something new elsewhere kept what was looked for from counting than not
_REST_SECONDS: Final = 0.25  # after that
_MOST_WANTED: Final = 10_000  # keys
_LONGEST_KEY: Final = 256  # bytes, of those


class AskedAt:
    """How much had arrived on other connections when something was asked on the shared one."""

    __slots__ = ("all", "of_changes", "until")

    def __init__(self, all_: int, of_changes: int, now: float) -> None:
        self.all = all_
        self.of_changes = of_changes
        self.until = now + SECONDS


class _Kept:
    __slots__ = ("asked", "size", "tensor")

    def __init__(self, tensor: Any, size: int, asked: AskedAt) -> None:
        self.tensor = tensor
        self.size = size
        self.asked = asked


class KeptTensors:
    """
    The tensors by key, all of database 0. Nothing is kept unless `is_on`.

    `arrivals` are those on all connections of this process, and `here` those on the shared one. With other processes,
    `tallies` has those of all. `most` bytes are kept.
    """

    def __init__(self, arrivals: Arrivals, here: Arrivals, tallies: Tallies | None = None, most: int = MOST) -> None:
        self.is_on = False
        self.size = 0  # bytes
        self._arrivals = arrivals
        self._here = here
        self._tallies = tallies
        self._most = most
        self._confirmed = -1  # of `Arrivals.all`: changes that anybody had learned of by then have been told
        self._kept: dict[bytes, _Kept] = {}  # in the order in which they were asked for
        self._reading: dict[bytes, AskedAt] = {}
        self._wanted: dict[bytes, int] = {}  # how often each may still be written and kept
        self._in_vain = 0
        self._missed_at = self._found_at = -1  # of `Arrivals.all`
        self._rests_after = self._rests_until = 0.0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: bytes, now: float) -> Any:
        """Return the tensor that the key holds, or None if only Redis can tell."""
        self._want(key)
        if self.rests(now):
            return None
        elsewhere = self._all_elsewhere()
        if self._confirmed != elsewhere:
            if elsewhere != self._missed_at:
                self._missed_at = elsewhere
                self._was_in_vain(now)
            return None
        kept = self._kept.get(key)
        if kept is None or kept.asked.until <= now:
            return None
        if kept.asked.of_changes != self._changes_elsewhere():
            return None
        if elsewhere != self._found_at:
            self._found_at = elsewhere
            self._in_vain = max(0, self._in_vain - 2)  # of which one for the first look before Redis had answered here
        return kept.tensor

    def rests(self, now: float) -> bool:
        """Return whether nothing is to be kept of what begins now. It stays the same for what has begun."""
        return self._rests_after < now < self._rests_until

    def wants(self, key: bytes) -> bool:
        """Return whether what is written to this key is likely to be looked for."""
        return self._wanted.get(key, 0) > 0

    def asking(self, now: float) -> AskedAt:
        """Return what `answered` and `keep` have to know of a request that is about to be sent."""
        return AskedAt(self._all_elsewhere(), self._changes_elsewhere(), now)

    def reading(self, key: bytes, asked: AskedAt) -> None:
        """Note that a key is about to be read, with more than one reply."""
        self._reading[key] = asked

    def has_read(self, key: bytes, asked: AskedAt) -> bool:
        """Return whether Redis has told of no change since `reading`. Call it once for each key that was read."""
        if self._reading.get(key) is not asked:
            return False
        del self._reading[key]
        return True

    def answered(self, asked: AskedAt) -> None:
        """Take that Redis has answered on the shared connection."""
        self._confirmed = asked.all

    def has_written(self, key: bytes, tensor: Any, size: int, asked: AskedAt) -> None:
        """Keep what was written, and read back."""
        if key in self._wanted:
            self._wanted[key] -= 1
        self.keep(key, tensor, size, asked)

    def keep(self, key: bytes, tensor: Any, size: int, asked: AskedAt) -> None:
        """Keep what the key held when Redis answered, just now."""
        self.forget(key)
        size += len(key) + _OVERHEAD
        if size > MOST_ONE or not self.is_on:
            return
        self._kept[key] = _Kept(tensor, size, asked)
        self.size += size
        if self.size > self._most:
            self._make_room()

    def forget(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size -= kept.size

    def forget_all(self) -> None:
        self._kept.clear()
        self._reading.clear()
        self.size = 0

    def told(self, message: bytes) -> None:
        """Take a message that Redis has sent on the shared connection."""
        words = decode(message)
        if not isinstance(words, list) or len(words) != 2 or words[0] != b"invalidate":
            return
        if not isinstance(words[1], list):  # no keys, but all of them: FLUSHALL
            self.forget_all()
            return
        for key in words[1]:
            assert isinstance(key, bytes)
            self._reading.pop(key, None)
            self.forget(key)

    def end(self) -> None:
        """Keep nothing any more: the connection has ended, or may not read what it would have to."""
        self.is_on = False
        self._confirmed = -1
        self.forget_all()

    def _all_elsewhere(self) -> int:
        """Return how much has arrived on any other connection, of any process."""
        tallies = self._tallies
        return (self._arrivals.all if tallies is None else tallies.all) - self._here.all

    def _changes_elsewhere(self) -> int:
        tallies = self._tallies
        return (self._arrivals.of_changes if tallies is None else tallies.of_changes) - self._here.of_changes

    def _was_in_vain(self, now: float) -> None:
        """Rest if that has happened often."""
        self._in_vain += 1
        if self._in_vain >= _IN_VAIN:
            self._in_vain = 0
            self._rests_after, self._rests_until = now, now + _REST_SECONDS

    def _want(self, key: bytes) -> None:
        if len(key) > _LONGEST_KEY:
            return
        if len(self._wanted) >= _MOST_WANTED:
            self._wanted.clear()
        self._wanted[key] = _PATIENCE

    def _make_room(self) -> None:
        """Let a quarter go, those first that were asked for first."""
        for key in list(self._kept):
            if self.size <= self._most * 3 // 4:
                return
            self.forget(key)
