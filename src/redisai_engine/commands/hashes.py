"""
What models and scripts share: each is one hash of a kind (`store.Kind`), written, deleted and found as a whole.

Invariant: a hash of another kind keeps its fields and its expiry. The key is checked before the write. Where the check
comes too late (inside MULTI, or in a race with another client), the write is undone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Permit, Plan, UpstreamCommand, refuse_error
from redisai_engine.errors import CommandError, WrongType
from redisai_engine.protocol import replies
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.protocol.tensor import Buffer
from redisai_engine.redis import store

_SLICE = b"1000"  # keys that SCAN looks at per call, so that other clients get their turn in between
NO_FIELD = b"ai.engine:none"  # in no hash: deleting it requires the right to write and changes nothing
# A field without a value: Redis refuses it last, after it has looked at rights, memory and whether it may write.
HALF_FIELD = (NO_FIELD, b"", NO_FIELD)
_HALF_REFUSED = "ERR wrong number of arguments for 'hset' command"
READ_RIGHT = b"r"  # the right to read a key, as `Rights` remembers it


def check_writable(client: Client, key: bytes, kind: store.Kind) -> Generator[Any, Any, None]:
    """
    Check that this client may write the key, and that the key is free or already holds this kind.

    Raise UpstreamError if Redis refuses the write, WrongType if the key holds another kind. Call this before anything
    is compiled or loaded for a client. Inside MULTI only the right is checked: what the key holds is known too late.
    """
    permitted = (b"HDEL", key, NO_FIELD)
    if client.in_transaction:
        yield Permit([permitted])
        return
    write = (b"HSET", key, *HALF_FIELD)
    exists, found, deleted, written = yield [(b"EXISTS", key), (b"HGET", key, kind.marker), permitted, write]
    refuse_error(exists, found, deleted, *(() if _is_half(written) else (written,)))
    if exists and found is None:
        raise WrongType


def _is_half(answer: object) -> bool:
    return isinstance(answer, ReplyError) and answer.text.startswith(_HALF_REFUSED)


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
    Write fields and values, replacing an older hash of the same kind.

    `expiry` is the command that sets or removes the key's expiry. The commands of `before` are sent first, in the same
    write. Raise WrongType if the key holds another kind, UpstreamError if Redis refuses to write.
    """
    if client.transaction is not None:
        client.transaction.stored.add(key)
    # An older, larger model under the same key may have more fields.
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
    if exists and not isinstance(marker, bytes):  # another kind of key, noticed too late: restore it
        expires = [(b"PEXPIRE", key, b"%d" % ttl_ms)] if ttl_ms > 0 else []
        yield [(b"HDEL", key, *kind.fields), *expires]
        raise WrongType
    refuse_error(stored)


def delete_hash(key: bytes, kind: store.Kind, missing: str) -> Plan:
    """
    Delete exactly the fields of the kind.

    Raise CommandError(missing) if there is no key, WrongType if the key holds another kind.
    """
    exists, deleted = yield [(b"EXISTS", key), (b"HDEL", key, *kind.fields)]
    refuse_error(exists, deleted)
    if not exists:
        raise CommandError(missing)
    if not deleted:
        raise WrongType
    return replies.OK


def scan_hashes(client: Client, field: bytes) -> Generator[Any, Any, dict[bytes, bytes]]:
    """
    Return the value of `field` for every key whose hash has it.

    Inside MULTI only the keys that the same transaction stored earlier are read in place. All others are scanned after
    EXEC, because a scan in the middle of the transaction would block Redis for its whole duration.
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
    """Return HMGET's reply. Raise UpstreamError if it is an error."""
    refuse_error(reply)
    return list(reply)


def hash_of(reply: Any) -> dict[bytes, Any]:
    """Return HGETALL's reply as a dict. Raise UpstreamError if it is an error."""
    refuse_error(reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))
