"""
What models and scripts have in common: each is one hash of a kind (`store.Kind`), written, deleted and found whole.

Invariant: a hash that isn't of the kind is never changed, not even for a moment that another client could see.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Permit, Plan, UpstreamCommand, refuse_error
from redisai_engine.errors import CommandError, WrongType
from redisai_engine.protocol import replies
from redisai_engine.protocol.tensor import Buffer
from redisai_engine.redis import store

_SLICE = b"1000"  # keys looked at before other clients get their turn
_NO_FIELD = b"ai.engine:none"  # of no hash: deleting it needs the right to write and does nothing
READ_RIGHT = b"r"  # to the key, as a connection remembers it


def check_writable(client: Client, key: bytes, kind: store.Kind) -> Generator[Any, Any, None]:
    """
    Raises UpstreamError unless this client may write the key, and WrongType when the key holds another kind.

    Comes before anything is compiled or loaded for a client. Inside MULTI what the key holds is seen too late for it.
    """
    write = (b"HDEL", key, _NO_FIELD)
    if client.in_transaction:
        yield Permit([write])
        return
    exists, found, written = yield [(b"EXISTS", key), (b"HGET", key, kind.marker), write]
    refuse_error(exists, found, written)
    if exists and found is None:
        raise WrongType


def write_hash(
    client: Client,
    key: bytes,
    kind: store.Kind,
    fields: Sequence[Buffer],
    *,
    expiry: UpstreamCommand,
    before: Sequence[UpstreamCommand] = (),
) -> Generator[Any, Any, None]:
    """
    Writes fields and values, over an older hash of the same kind.

    `expiry` is the command that says when the key expires; those of `before` are sent first, in the same write.
    """
    if client.transaction is not None:
        client.transaction.stored.add(key)
    unused = set(kind.fields) - set(map(bytes, fields[::2]))
    answers = yield [
        *before,
        (b"EXISTS", key),
        (b"HGET", key, kind.marker),
        (b"PTTL", key),
        (b"HSET", key, *fields),
        *([(b"HDEL", key, *unused)] if unused else []),
        expiry,
    ]
    exists, marker, ttl_ms, stored = answers[len(before) : len(before) + 4]
    if exists and not isinstance(marker, bytes):  # somebody's key, seen too late inside MULTI: it gets back what it was
        expires = [(b"PEXPIRE", key, b"%d" % ttl_ms)] if ttl_ms > 0 else []
        yield [(b"HDEL", key, *kind.fields), *expires]
        raise WrongType
    refuse_error(stored)


def delete_hash(key: bytes, kind: store.Kind, missing: str) -> Plan:
    """Deletes exactly the fields of the kind. Raises CommandError(missing) where there is no key."""
    exists, deleted = yield [(b"EXISTS", key), (b"HDEL", key, *kind.fields)]
    refuse_error(exists, deleted)
    if not exists:
        raise CommandError(missing)
    if not deleted:
        raise WrongType
    return replies.OK


def scan_hashes(client: Client, field: bytes) -> Generator[Any, Any, dict[bytes, bytes]]:
    """
    Gives the value of `field` for every key whose hash has it.

    Inside MULTI only what earlier commands of the same transaction stored is read in its place; the other keys are
    scanned when EXEC is over, because a scan in its middle would stop Redis for as long as it takes.
    """
    own: dict[bytes, bytes] = {}
    if client.transaction is not None:
        keys = list(client.transaction.stored)
        _, *values = yield [(b"PING",), *((b"HGET", key, field) for key in keys)]
        own = present(keys, values)
    found: dict[bytes, bytes] = {}
    cursor = b"0"
    while True:
        (slice_,) = yield [(b"SCAN", cursor, b"TYPE", b"hash", b"COUNT", _SLICE)]
        refuse_error(slice_)
        cursor, keys = slice_
        if keys:
            found |= present(keys, (yield [(b"HGET", key, field) for key in keys]))
        if cursor == b"0":
            return found | own


def present(keys: Sequence[bytes], values: Sequence[Any]) -> dict[bytes, bytes]:
    return {key: value for key, value in zip(keys, values, strict=True) if isinstance(value, bytes)}


def values_of(reply: Any) -> list[Any]:
    """HMGET's reply. Raises UpstreamError if it is an error."""
    refuse_error(reply)
    return list(reply)


def hash_of(reply: Any) -> dict[bytes, Any]:
    """HGETALL's reply as a dict. Raises UpstreamError if it is an error."""
    refuse_error(reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))
