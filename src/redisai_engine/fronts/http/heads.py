"""
Heads of requests to hot routes that were seen lately, so that a request with the same head needs no parser.

Theory of operation. Clients send the same head again and again, byte for byte. What the parser has made of a head once
holds for the next one, as long as the parser would begin with it in the same state: between two messages. Only a head
whose request came in one piece is learned, with nothing before or behind it, so that it is certain where head and body
end. A head that differs in one byte is another one. But a known path may stand before the fields of a known head, as
where a client turns to another deployment.

Invariant: what is found is what the parser would say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redisai_engine.errors import EngineError
from redisai_engine.fronts.http.access.calls import SMALL_BODY
from redisai_engine.fronts.http.access.users import Credentials
from redisai_engine.fronts.http.gate import credentials_in
from redisai_engine.fronts.http.hot import HotRoute
from redisai_engine.fronts.http.v2.requests import JSON_SIZE, json_size_of

_MOST_HEADS = 512
_LONGEST = 2048  # bytes
_END = b"\r\n\r\n"
_LINE_BEGIN, _LINE_END = b"POST ", b" HTTP/1.1\r\n"
_NOT_PLAIN = frozenset((b"transfer-encoding", b"expect", b"connection", b"upgrade", b"traceparent"))


class Fields:
    """
    What the fields of a head say, whatever path is before them. `size` is that of the body.

    A `json_size` of -1: the body isn't for the quick way.
    """

    __slots__ = ("credentials", "headers", "json_size", "size")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]], size: int) -> None:
        """Raise EngineError for credentials that no user can have."""
        self.headers = headers
        self.size = size
        self.credentials: Credentials | None = credentials_in(headers)
        self.json_size = _json_size(headers)


class Head:
    """What a head says, as in `Fields`."""

    __slots__ = ("credentials", "fields", "headers", "json_size", "route", "size", "url")

    def __init__(self, route: HotRoute, url: bytes, fields: Fields) -> None:
        self.route = route
        self.url = url
        self.fields = fields
        self.headers = fields.headers
        self.size = fields.size
        self.credentials = fields.credentials
        self.json_size = fields.json_size if route.is_infer else -1


def quick_json_size(route: HotRoute, headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """Return how many bytes of a body are JSON (None: all), or -1 if it isn't for the quick way."""
    return _json_size(headers) if route.is_infer else -1


def _json_size(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
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
    """The heads that one process has seen. `routes` are those of known paths, None for what isn't a hot one."""

    def __init__(self, routes: Mapping[bytes, HotRoute | None]) -> None:
        self._routes = routes
        self._known: dict[bytes, Head] = {}
        self._fields: dict[bytes, Fields] = {}

    def find(self, data: bytes) -> Head | None:
        """Return what is known of a request's head, if the data is one whole request."""
        end = data.find(_END) + len(_END)
        head = self._known.get(data[:end])
        if head is None:
            head = self._joined(data[:end])
        return head if head is not None and head.size == len(data) - end else None

    def _joined(self, head: bytes) -> Head | None:
        """Join a known path and known fields."""
        line, fields = _parts(head)
        known = self._fields.get(fields)
        if known is None or not line.startswith(_LINE_BEGIN) or not line.endswith(_LINE_END):
            return None
        url = line[len(_LINE_BEGIN) : -len(_LINE_END)]
        route = self._routes.get(url)
        if route is None or len(head) > _LONGEST:
            return None
        return self._keep(head, Head(route, url, known))

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
        try:
            self._keep(head, Head(route, url, Fields(headers, size)))
        except EngineError:
            return

    def _keep(self, head: bytes, known: Head) -> Head:
        if len(self._known) >= _MOST_HEADS:
            self._known.clear()
            self._fields.clear()
        self._known[head] = known
        self._fields[_parts(head)[1]] = known.fields
        return known


def _parts(head: bytes) -> tuple[bytes, bytes]:
    """Return a head's request line and its fields."""
    end = head.find(b"\r\n") + 2
    return head[:end], head[end:]


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
