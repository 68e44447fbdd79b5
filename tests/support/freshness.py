"""
A record of what clients did to keys, which tells whether anybody has read what was no longer there.

A write is *over* for whoever reads later, once its client has its answer, or once somebody has read what it wrote. What
was written before it must not be read from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NOTHING = -1  # what a key holds after it was deleted


@dataclass
class Write:
    """A value that a client wrote, and when: on one clock that ticks with whatever happens."""

    value: int
    client: int
    sent: int
    over: int | None = None
    reads: list[int] = field(default_factory=list)


class Record:
    """What was written to each key. All keys hold nothing at first."""

    def __init__(self) -> None:
        self._now = 0
        self._writes: dict[str, list[Write]] = {}

    def tick(self) -> int:
        self._now += 1
        return self._now

    def begin(self, key: str, value: int, client: int) -> Write:
        write = Write(value, client, self.tick())
        self._writes.setdefault(key, [Write(NOTHING, -1, 0, 0)]).append(write)
        return write

    def end(self, write: Write) -> None:
        now = self.tick()
        write.over = now if write.over is None else write.over

    def forget(self, key: str, write: Write) -> None:
        """Take back a write that Redis has refused."""
        self._writes[key].remove(write)

    def has_read(self, key: str, value: int, client: int, sent: int) -> str:
        """Record that a request sent at `sent` has read this. Return why it must not have, or nothing."""
        writes = self._writes.setdefault(key, [Write(NOTHING, -1, 0, 0)])
        sources = [write for write in writes if write.value == value]
        if not sources:
            return f"{key} never held {value}"
        if all(self._is_old(write, writes, client, sent) for write in sources):
            later = [write for write in writes if write.over is not None and write.over < sent]
            return f"client {client} has read {value} from {key} at {sent}, but by then there were {later}"
        if len(sources) == 1 and sources[0].over is None:
            sources[0].over = self.tick()
        return ""

    def _is_old(self, write: Write, writes: list[Write], client: int, sent: int) -> bool:
        """Return whether some other write lay wholly between this one and a request of `client` at `sent`."""
        return write.over is not None and any(
            other.sent > write.over and (other.sent < sent if other.client == client else _is_over(other, sent))
            for other in writes
        )


def _is_over(write: Write, now: int) -> bool:
    return write.over is not None and write.over < now
