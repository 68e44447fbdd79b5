"""
RESP on the way out: one function for each type of reply, each giving the bytes for the wire.

A reply's type is always chosen by the caller, never guessed from a Python value. What looks different in
RESP2 and RESP3 (null, doubles, maps, sets) has a function that takes the protocol version.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from redisai_engine.protocol.tensor import Buffer

Reply = bytes | list[Buffer]  # in pieces if it is large

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
NA = b"+NA\r\n"
QUEUED = b"+QUEUED\r\n"
TIMEDOUT = b"+TIMEDOUT\r\n"
EMPTY_ARRAY = b"*0\r\n"


def simple(text: str) -> bytes:
    """Encodes a simple string; `text` has no line break."""
    return b"+%s\r\n" % text.encode()


def error(text: str) -> bytes:
    """Encodes an error; line breaks in `text` become spaces, as Redis writes them."""
    return b"-%s\r\n" % text.replace("\r", " ").replace("\n", " ").encode("utf-8", "surrogateescape")


def integer(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(data: Buffer) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)  # type: ignore[str-format]  # any buffer will do


def text(value: str) -> bytes:
    """Encodes text as a bulk string."""
    return bulk(value.encode("utf-8", "surrogateescape"))


def null(protocol: int) -> bytes:
    return b"_\r\n" if protocol == 3 else b"$-1\r\n"


def double(value: float, protocol: int) -> bytes:
    """Encodes a double with 17 significant digits as RedisAI prints it: RESP3's double, in RESP2 a bulk string."""
    digits = b"%.17g" % value
    return b",%b\r\n" % digits if protocol == 3 else b"$%d\r\n%b\r\n" % (len(digits), digits)


def array(elements: Sequence[bytes]) -> bytes:
    """Encodes an array of replies that are encoded already."""
    return b"".join((b"*%d\r\n" % len(elements), *elements))


def mapping(pairs: Sequence[tuple[bytes, bytes]], protocol: int) -> bytes:
    """Encodes keys and values that are encoded already: RESP3's map, in RESP2 an array of them by turns."""
    header = b"%%%d\r\n" % len(pairs) if protocol == 3 else b"*%d\r\n" % (2 * len(pairs))
    return header + b"".join(part for pair in pairs for part in pair)


def unordered(elements: Sequence[bytes], protocol: int) -> bytes:
    """Encodes replies that are encoded already: RESP3's set, in RESP2 an array."""
    return b"%c%d\r\n%b" % (b"~" if protocol == 3 else b"*", len(elements), b"".join(elements))


def texts(values: Iterable[str]) -> bytes:
    """Encodes an array of bulk strings."""
    return array([text(value) for value in values])


def command(*arguments: Buffer) -> bytes:
    """Encodes a command for a server: an array of bulk strings."""
    pieces: list[Buffer] = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        pieces += (b"$%d\r\n" % len(argument), argument, b"\r\n")
    return b"".join(pieces)
