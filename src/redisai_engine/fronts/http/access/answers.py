"""
An HTTP response apart from any connection: what is in it, its bytes, and how long its parts took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from redisai_engine.execution.job import Job
from redisai_engine.protocol.tensor import Buffer

Headers: TypeAlias = list[tuple[bytes, bytes]]

JSON = b"application/json"
_LARGE = 1 << 16  # bytes of a body that isn't copied behind its head


class Stopwatch:
    """How long the parts of a request took, for the header Server-Timing."""

    __slots__ = ("_last", "parts")

    def __init__(self) -> None:
        self._last = monotonic()
        self.parts: list[tuple[bytes, float]] = []

    def end(self, part: bytes) -> None:
        """Record that this part has lasted from the end of the one before it until now."""
        self.end_at(part, monotonic())

    def end_at(self, part: bytes, now: float) -> None:
        """Record that this part has lasted until `now`, on the clock of `time.monotonic`."""
        self.parts.append((part, now - self._last))
        self._last = now

    def ran(self, jobs: Sequence[Job]) -> None:
        """Record that a run has ended, and what came before it began if that is known of a single job."""
        if jobs and jobs[0].started_at > self._last:
            self.end_at(b"queue", jobs[0].started_at)
        self.end(b"run")

    def header(self) -> tuple[bytes, bytes]:
        return b"server-timing", b", ".join([b"%s;dur=%.3f" % (part, seconds * 1e3) for part, seconds in self.parts])


@dataclass(slots=True)
class HttpAnswer:
    """A response. `tail` has what follows the body's first part, as it is."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()
    tail: Sequence[Buffer] = ()

    @property
    def size(self) -> int:
        return len(self.body) + sum(map(len, self.tail)) if self.tail else len(self.body)

    def all_headers(self) -> Headers:
        return [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % self.size),
            *self.headers,
        ]

    def pieces(self, *, keep_alive: bool) -> list[Buffer]:
        """Return the response as it is sent: in one piece, unless joining would copy what is large."""
        status_line: bytes = STATUS_LINE[self.status]
        size = self.size
        pieces: list[Buffer] = [
            status_line,
            b"content-type: ",
            self.content_type,
            b"\r\ncontent-length: %d\r\n" % size,
        ]
        for name, value in self.headers:
            pieces += (name, b": ", value, b"\r\n")
        pieces.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
        pieces.append(self.body)
        pieces += self.tail
        return pieces if size >= _LARGE else [b"".join(pieces)]
