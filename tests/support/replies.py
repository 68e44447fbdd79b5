"""Replies as they are on the wire, put together from their parts, for tests that compare bytes."""

from __future__ import annotations

from collections.abc import Iterable

OK = b"+OK\r\n"
NA = b"+NA\r\n"  # of an operation in a DAG that could not run
TIMEDOUT = b"+TIMEDOUT\r\n"


def error(text: str) -> bytes:
    return b"-%b\r\n" % text.encode()


WRONGTYPE = error("WRONGTYPE Operation against a key holding the wrong kind of value")


def integer(value: int) -> bytes:
    return b":%d\r\n" % value


def bulk(data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def array(items: Iterable[bytes]) -> bytes:
    """An array of replies."""
    held = list(items)
    return b"*%d\r\n%b" % (len(held), b"".join(held))


def bulks(*texts: bytes | str) -> bytes:
    """An array of bulk strings."""
    return array(map(bulk, texts))


def tensor_meta(dtype: str, *shape: int) -> list[bytes]:
    """The elements of what AI.TENSORGET answers with META."""
    return [bulk("dtype"), bulk(dtype), bulk("shape"), array(map(integer, shape))]


def tensor(dtype: str, shape: Iterable[int], blob: bytes) -> bytes:
    """What AI.TENSORGET answers with META and BLOB."""
    return array([*tensor_meta(dtype, *shape), bulk("blob"), bulk(blob)])
