"""
One HTTP request and its answer, apart from any server: what the hot routes take and return.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeAlias

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Encode
from redisai_engine.execution.job import Job
from redisai_engine.fronts.http.access.connection import Steps, UserConnection
from redisai_engine.fronts.http.access.failures import RequestRefused, body_too_large
from redisai_engine.protocol.tensor import Buffer

Headers: TypeAlias = list[tuple[bytes, bytes]]

JSON = b"application/json"
SMALL_BODY = 1 << 16  # bytes; a larger body is read in a thread
_VALUE_BYTES, _CONTAINER_BYTES = 40, 80  # what a number or text, and a list or an object, takes once it is parsed


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
class Call:
    """
    A request whose body is there. `name` is the deployment that the path names; empty: the default one.

    `shown` is the name as a header has it.
    """

    connection: UserConnection
    name: bytes
    version: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    shown: bytes = b""
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def client(self) -> Client:
        return self.connection.client

    def header(self, name: bytes) -> bytes | None:
        """Return the first header of this name, in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


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


Handler: TypeAlias = Callable[[Call], Steps[HttpAnswer]]


def check_weight(body: bytes, most: int) -> None:
    """Raise RequestRefused if the values in a text, once it is parsed, would take more than `most` bytes."""
    if len(body) <= SMALL_BODY:
        return
    weight = _VALUE_BYTES * (body.count(b",") + body.count(b"\n")) + _CONTAINER_BYTES * (
        body.count(b"[") + body.count(b"{")
    )
    if weight > most:
        raise RequestRefused(
            413,
            f"the body would take about {weight} bytes once it is parsed; allowed: {most} (see --tensor-limit); "
            "tensors in binary form take less",
        )


def body_of(call: Call) -> Steps[bytes]:
    """Take the body out of a call, decompressed. Raise RequestRefused for what isn't compressed as announced."""
    body, call.body = call.body, b""
    encoding = call.header(b"content-encoding")
    if encoding is None or encoding == b"identity":
        return body
    if encoding.lower() not in (b"gzip", b"deflate"):
        raise RequestRefused(415, f"Content-Encoding can't be {encoding[:40]!r}; allowed: gzip, deflate")
    most = call.client.engine.settings.http_body_limit
    whole: bytes = yield Encode(lambda: _decompressed(body, most))
    return whole


def _decompressed(body: bytes, most: int) -> bytes:
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either format, by its head
    try:
        whole = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise RequestRefused(
            400, f"the body isn't compressed as its Content-Encoding says: {first_line(error)}"
        ) from None
    if len(whole) > most:
        raise body_too_large(most)
    if not stream.eof:
        raise RequestRefused(400, "the compressed body is incomplete")
    return whole


def first_line(error: Any, most: int = 200) -> str:
    """Return the first line of a library's text, cut."""
    return str(error).strip().partition("\n")[0][:most]
