"""
Encoding of RESP: one function for each type of reply, which returns the bytes for the wire.

The caller always chooses a reply's type; it is never guessed from a Python value. Types that differ between RESP2 and
RESP3 (null, doubles, maps, sets) have a function that takes the protocol version, 2 or 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from redisai_engine.protocol.tensor import Buffer

Reply = bytes | list[Buffer]  # a large reply is a list of pieces, because joining them would copy it

LARGE = 64 * 1024  # bytes; from this size on, one more piece to write costs less than a copy

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
NA = b"+NA\r\n"
QUEUED = b"+QUEUED\r\n"
TIMEDOUT = b"+TIMEDOUT\r\n"
EMPTY_ARRAY = b"*0\r\n"


def simple(text: str) -> bytes:
    """Encode a simple string. `text` must not contain a line break."""
    return b"+%s\r\n" % text.encode()


def error(text: str) -> bytes:
    """Encode an error. Line breaks in `text` become spaces, as in Redis."""
    return b"-%s\r\n" % text.replace("\r", " ").replace("\n", " ").encode("utf-8", "surrogateescape")


def integer(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(data: Buffer) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)  # type: ignore[str-format]  # %b accepts any buffer


def text(value: str) -> bytes:
    """Encode text as a bulk string."""
    return bulk(value.encode("utf-8", "surrogateescape"))


def null(protocol: int) -> bytes:
    return b"_\r\n" if protocol == 3 else b"$-1\r\n"


def double(value: float, protocol: int) -> bytes:
    """Encode a double with 17 significant digits, as RedisAI prints it: a double in RESP3, a bulk string in RESP2."""
    digits = b"%.17g" % value
    return b",%b\r\n" % digits if protocol == 3 else b"$%d\r\n%b\r\n" % (len(digits), digits)


def joined(reply: Reply) -> bytes:
    return reply if isinstance(reply, bytes) else b"".join(reply)


def array(elements: Sequence[bytes]) -> bytes:
    """Encode an array of replies that are already encoded."""
    return b"".join((b"*%d\r\n" % len(elements), *elements))


def mapping(pairs: Sequence[tuple[bytes, bytes]], protocol: int) -> bytes:
    """Encode pairs of encoded keys and values: a map in RESP3, a flat array of key, value, key, value ... in RESP2."""
    header = b"%%%d\r\n" % len(pairs) if protocol == 3 else b"*%d\r\n" % (2 * len(pairs))
    return header + b"".join(part for pair in pairs for part in pair)


def unordered(elements: Sequence[bytes], protocol: int) -> bytes:
    """Encode replies that are already encoded: a set in RESP3, an array in RESP2."""
    return b"%c%d\r\n%b" % (b"~" if protocol == 3 else b"*", len(elements), b"".join(elements))


def texts(values: Iterable[str]) -> bytes:
    """Encode text values as an array of bulk strings."""
    return array([text(value) for value in values])


def command(*arguments: Buffer) -> bytes:
    """Encode a command for a server: an array of bulk strings."""
    return joined(command_pieces(*arguments))


def command_pieces(*arguments: Buffer) -> Reply:
    """Encode a command for a server: in pieces if it is large, because joining them would copy it."""
    pieces: list[Buffer] = [b"*%d\r\n" % len(arguments)]
    total = 0
    for argument in arguments:
        size = len(argument)
        total += size
        pieces += (b"$%d\r\n" % size, argument, b"\r\n")
    return pieces if total >= LARGE else b"".join(pieces)
