"""
Heads of requests to hot routes that were seen lately, so that a request with the same head needs no parser.

Theory of operation. Clients send the same head again and again, byte for byte. What the parser has made of a head once
holds for the next one, as long as the parser would begin with it in the same state: between two messages. Only a head
whose request came in one piece is learned, with nothing before or behind it, so that it is certain where head and body
end. A head that differs in one byte is another one.

Invariant: what is found is what the parser would say.
"""

from __future__ import annotations

from collections.abc import Sequence

from redisai_engine.errors import EngineError
from redisai_engine.fronts.http.access.calls import SMALL_BODY
from redisai_engine.fronts.http.access.users import Credentials
from redisai_engine.fronts.http.gate import credentials_in
from redisai_engine.fronts.http.hot import HotRoute
from redisai_engine.fronts.http.v2.requests import JSON_SIZE, json_size_of

_MOST_HEADS = 512
_LONGEST = 2048  # bytes
_END = b"\r\n\r\n"
_NOT_PLAIN = frozenset((b"transfer-encoding", b"expect", b"connection", b"upgrade", b"traceparent"))


class Head:
    """What a head says. `size` is that of the body. A `json_size` of -1: the body isn't for the quick way."""

    __slots__ = ("credentials", "headers", "json_size", "route", "size", "url")

    def __init__(self, route: HotRoute, url: bytes, headers: Sequence[tuple[bytes, bytes]], size: int) -> None:
        """Raise EngineError for credentials that no user can have, or a wrong number."""
        self.route = route
        self.url = url
        self.headers = headers
        self.size = size
        self.credentials: Credentials | None = credentials_in(headers)
        self.json_size = quick_json_size(route, headers)


def quick_json_size(route: HotRoute, headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """Return how many bytes of a body are JSON (None: all), or -1 if it isn't for the quick way."""
    if not route.is_infer:
        return -1
    size = None
    for name, value in headers:
        if name == b"content-encoding":
            return -1
        if name == JSON_SIZE:
            if size is not None:
                return -1
            size = value
    try:
        return json_size_of(size)
    except EngineError:
        return -1


class Heads:
    """The heads that one process has seen."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> Head | None:
        """Return what is known of a request's head, if the data is one whole request."""
        end = data.find(_END) + len(_END)
        head = self._known.get(data[:end])
        return head if head is not None and head.size == len(data) - end else None

    def learn(
        self, data: bytes, route: HotRoute, url: bytes, headers: Sequence[tuple[bytes, bytes]], size: int
    ) -> None:
        """
        Remember the head of a request, if the data can only be that head and the body.

        The parser has begun with the data's first byte and ended one message in it, whose body has `size` bytes.
        """
        head = data[: len(data) - size]
        if not 0 < size <= SMALL_BODY or len(head) > _LONGEST or not _is_plain(head, headers, size):
            return
        if len(self._known) >= _MOST_HEADS:
            self._known.clear()
        try:
            self._known[head] = Head(route, url, headers, size)
        except EngineError:
            return


def _is_plain(head: bytes, headers: Sequence[tuple[bytes, bytes]], size: int) -> bool:
    """Return whether the head ends where its bytes do, and tells the body's length in the usual way."""
    if not head.startswith(b"POST ") or head.find(_END) != len(head) - len(_END):
        return False
    if head.count(b"\n") != head.count(b"\r\n") or head.count(b"\r") != head.count(b"\r\n"):
        return False
    names = [name for name, _ in headers]
    if not _NOT_PLAIN.isdisjoint(names):
        return False
    return [value for name, value in headers if name == b"content-length"] == [b"%d" % size]
