"""
One HTTP request, apart from any server: what the hot routes take, and what reads its body.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Encode
from redisai_engine.fronts.http.access.answers import HttpAnswer, Stopwatch
from redisai_engine.fronts.http.access.connection import Steps, UserConnection
from redisai_engine.fronts.http.access.failures import RequestRefused, body_too_large

SMALL_BODY = 1 << 16  # bytes; a larger body is read in a thread
_VALUE_BYTES, _CONTAINER_BYTES = 40, 80  # what a number or text, and a list or an object, takes once it is parsed


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
