"""Targets for what arrives on connections: requests of clients, in both forms, and replies of Redis."""

from __future__ import annotations

import contextlib

from fuzz.choices import Choices
from redisai_engine.protocol import frames, inline
from redisai_engine.protocol.errors import ProtocolError
from redisai_engine.protocol.layouts import Template
from redisai_engine.protocol.requests import Request, RequestParser

_MANY_BYTES = 1 << 14  # a longer stream is read only twice
_FEW_BYTES = 100  # a stream up to this length is also read byte by byte


def requests(data: bytes) -> None:
    """However a stream is cut, and whichever of the parser's ways reads it: the same requests, and the same error."""
    choices = Choices(data)
    sizes = [1 + choices.byte() ** 2 for _ in range(4)]
    ways = choices.take(4)
    stream = choices.stretched()

    expected = _Reader().read([stream])

    assert _Reader(ways).read(_cut(stream, sizes)) == expected
    if len(stream) <= _MANY_BYTES:
        assert _Reader().read(_cut(stream, sizes)) == expected
        assert _Reader(ways).read([stream]) == expected
    if len(stream) <= _FEW_BYTES:
        assert _Reader().read([stream[i : i + 1] for i in range(len(stream))]) == expected


def _cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    chunks = []
    for size in sizes:
        chunks.append(stream[:size])
        stream = stream[size:]
    return [*chunks, stream]


class _Reader:
    """Reads requests as a session does. `ways` says, one bit for each, where it uses more than `next`."""

    def __init__(self, ways: bytes = b"\0") -> None:
        self._parser = RequestParser()
        self._ways = [byte >> bit & 1 for byte in ways for bit in range(8)]
        self._count = 0
        self._template: Template | None = None

    def read(self, chunks: list[bytes]) -> tuple[list[Request], str]:
        """Return all requests, and the error that ends them."""
        found: list[Request] = []
        try:
            for chunk in chunks:
                self._parser.feed(chunk)
                while some := self._some():
                    found += some
        except ProtocolError as error:
            return found, error.text
        return found, ""

    def _some(self) -> list[Request]:
        parser = self._parser
        if self._template is not None and self._chosen() and parser.take(self._template) is not None:
            return self._relayed()
        request = parser.next()
        if request is None:
            return []
        self._template = Template(request, range(len(request))[1:3])
        names, apart = frozenset({request[0], b"GET"}), frozenset({b"apart"})
        if self._chosen() and request[0] in names and apart.isdisjoint(request):
            taken = parser.extend(names, apart, 1000 if self._chosen() else 1)
            found = self._relayed()
            assert len(found) == 1 + taken
        else:
            found = self._relayed()
        assert found[0] == request
        return found

    def _chosen(self) -> bool:
        self._count += 1
        return bool(self._ways[self._count % len(self._ways)])

    def _relayed(self) -> list[Request]:
        """Return what Redis would read of the bytes that are relayed."""
        parser = RequestParser()
        parser.feed(self._parser.raw)
        found = []
        while (request := parser.next()) is not None:
            found.append(request)
        return found


def inline_requests(data: bytes) -> None:
    """A typed line has words or unbalanced quotes."""
    line = Choices(data).stretched()
    with contextlib.suppress(ProtocolError):
        words = inline.split_line(line)
        assert sum(map(len, words)) <= len(line)


def replies(data: bytes) -> None:
    """However a stream is cut, the same replies end at the same places, and each can be decoded or isn't RESP."""
    choices = Choices(data)
    sizes = [1 + choices.byte() ** 2 for _ in range(4)]
    stream = choices.stretched()

    found = _scanned([stream])

    assert _scanned(_cut(stream, sizes)) == found
    if len(stream) <= _FEW_BYTES:
        assert _scanned([stream[i : i + 1] for i in range(len(stream))]) == found
    start = 0
    for _, end in found[0]:
        with contextlib.suppress(ValueError):
            frames.decode(stream[start:end])
        with contextlib.suppress(ProtocolError):
            frames.elements(stream[start:end])
        start = end


def _scanned(chunks: list[bytes]) -> tuple[list[frames.Frame], bool]:
    """Return each reply's type and where it ends in the stream, and whether all is RESP."""
    scanner, found, offset = frames.FrameScanner(), [], 0
    try:
        for chunk in chunks:
            found += [(kind, offset + end) for kind, end in scanner.scan(chunk)]
            offset += len(chunk)
    except ProtocolError:
        return [], False  # a chunk with an error gives none of its replies
    return found, True
