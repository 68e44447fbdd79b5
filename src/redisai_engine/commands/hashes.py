"""
What models and scripts share: each is one hash of a kind (`store.Kind`), written, deleted and found as a whole.

Invariant: a hash of another kind keeps its fields and its expiry. The key is checked before the write. Where the check
comes too late (inside MULTI, or in a race with another client), the write is undone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from typing import Any

from redisai_engine.commands.budget import reply_budget
from redisai_engine.commands.client import Client
from redisai_engine.commands.steps import Limited, Permit, Plan, UpstreamCommand, refuse_error
from redisai_engine.errors import BadMetadata, CommandError, WrongType
from redisai_engine.protocol import replies
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.protocol.tensor import Buffer
from redisai_engine.redis import store
from redisai_engine.redis.metadata import MAX_METADATA

_NO_KEY = -2  # PTTL's reply
_SLICE = b"1000"  # keys that SCAN looks at per call, so that other clients get their turn in between
_LOOKS = 3  # at a key that comes and goes while two questions about it are on their way
_GROUP = 64  # keys whose metadata is read at once: it takes up to MAX_METADATA each
_LISTED_BYTES = 24  # of a listed key in the reply, besides key and tag
NO_FIELD = b"ai.engine:none"  # in no hash: deleting it requires the right to write and changes nothing
# A field without a value: Redis refuses it last, after it has looked at rights, memory and whether it may write.
HALF_FIELD = (NO_FIELD, b"", NO_FIELD)
_HALF_REFUSED = "ERR wrong number of arguments for 'hset' command"
# Deletes fields of the hash with this id, and none of another one.
_DELETE_OWN = b"""
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], unpack(ARGV, 3))
"""
READ_RIGHT = b"r"  # the right to read a key, as `Rights` remembers it


def check_writable(client: Client, key: bytes, kind: store.Kind) -> Generator[Any, Any, bool]:
    """
    Check that this client may write the key, and that the key is free or already holds this kind.

    Return whether it is free, as far as that is known. Raise UpstreamError if Redis refuses the write, WrongType if the
    key holds another kind. Call this before anything is compiled or loaded for a client. Inside MULTI what the key
    holds is known too late, so only the right and Redis' memory are checked.
    """
    if client.in_transaction:
        yield Permit(_harmless_writes(key))
        return False
    for _ in range(_LOOKS):
        found, exists = yield from look_at_writable(key, kind)
        if found is not None or not exists:
            return not exists
    raise WrongType


def read_fields(
    client: Client, key: bytes, names: Sequence[bytes], *, missing: str, most: int | None = MAX_METADATA
) -> Generator[Any, Any, list[Any]]:
    """
    Read fields of a hash whose first one, its marker, tells the kind, in replies of at most `most` bytes.

    Raise CommandError(missing) if there is no key, WrongType if it holds another kind, BadMetadata for another format.
    """
    # The fields come first: a key that goes before EXISTS was still read as a whole. One that comes then is looked at
    # again. Inside MULTI nothing can come or go.
    commands: list[UpstreamCommand] = [(b"HMGET", key, *names), (b"EXISTS", key)]
    for _ in range(1 if client.in_transaction else _LOOKS):
        values, exists = yield commands if most is None else Limited(commands, most)
        refuse_error(values)
        found = list(values)
        if found[0] is not None:
            store.check_format(found[0])
            return found
        refuse_error(exists)
        if not exists:
            raise CommandError(missing)
    raise WrongType


def check_permitted(key: bytes, *reading: UpstreamCommand, any_type: bool = False) -> Generator[Any, Any, list[Any]]:
    """
    Check in one round trip that the client may write the key as a hash, and return the replies to other commands.

    Raise UpstreamError if Redis refuses any of them. With `any_type` the key may be none: it will be deleted first.
    """
    answers: list[Any] = yield Limited([*reading, *_harmless_writes(key)], MAX_METADATA)
    expected = (_HALF_REFUSED, "WRONGTYPE") if any_type else (_HALF_REFUSED,)
    refuse_error(
        *(answer for answer in answers if not (isinstance(answer, ReplyError) and answer.text.startswith(expected)))
    )
    return answers[: len(reading)]


def look_at_writable(key: bytes, kind: store.Kind, *, any_type: bool = False) -> Generator[Any, Any, list[Any]]:
    """Check also the rights to what `writing` asks. Return the marker of this kind, and whether there is a key."""
    reading: list[UpstreamCommand] = [(b"HGET", key, kind.marker), (b"EXISTS", key), (b"PTTL", key)]
    return (yield from check_permitted(key, *reading, any_type=any_type))[:2]


def _harmless_writes(key: bytes) -> list[UpstreamCommand]:
    return [(b"HDEL", key, NO_FIELD), (b"HSET", key, *HALF_FIELD)]


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
    commands = [*before, *writing(key, kind, fields)]
    if client.transaction is not None:  # which Redis refuses as a whole
        client.transaction.stored.add(key)
        commands += [(b"HDEL", key, *names) for names in [_unused(kind, fields)] if names]
        answers = yield Limited([*commands, expiry], MAX_METADATA)
        yield from _check_written(key, kind, fields, answers[len(before) :])
    else:
        answers = yield Limited(commands, MAX_METADATA)
        yield from finish_writing(key, kind, fields, answers[len(before) :], expiry=expiry)


def writing(key: bytes, kind: store.Kind, fields: Sequence[Buffer]) -> Limited:
    """Return the commands that write fields and values."""
    return Limited([(b"HGET", key, kind.marker), (b"PTTL", key), (b"HSET", key, *fields)], MAX_METADATA)


def finish_writing(
    key: bytes, kind: store.Kind, fields: Sequence[Buffer], answers: Sequence[Any], *, expiry: UpstreamCommand
) -> Generator[Any, Any, None]:
    """
    Check the answers to what `writing` returns, and only then clear what is left of an older hash: Redis may refuse to
    write for want of memory, but never to delete. Raise the errors of `write_hash`.
    """
    yield from _check_written(key, kind, fields, answers)
    ttl_ms, unused = answers[1], _unused(kind, fields)
    if unused and ttl_ms != _NO_KEY:
        yield from delete_own(key, kind, _id(kind, fields), unused)
    if ttl_ms > 0 or expiry[0] != b"PERSIST":
        refuse_error(*(yield [expiry]))


def _unused(kind: store.Kind, fields: Sequence[Buffer]) -> set[bytes]:
    """Return the fields that an older, larger model under the same key may have."""
    return set(kind.fields) - set(map(bytes, fields[::2]))


def _id(kind: store.Kind, fields: Sequence[Buffer]) -> bytes:
    _, name, _ = kind.head
    return bytes(fields[fields.index(name) + 1])


def _check_written(
    key: bytes, kind: store.Kind, fields: Sequence[Buffer], answers: Sequence[Any]
) -> Generator[Any, Any, None]:
    marker, ttl_ms, stored = answers[:3]
    # All fields new in a key that was there: another kind, noticed too late. Not so if another client came to store one
    # of this kind just now.
    is_new = isinstance(stored, ReplyError) or stored == len(fields) // 2
    if not isinstance(marker, bytes) and ttl_ms != _NO_KEY and is_new:
        yield from delete_own(key, kind, _id(kind, fields), kind.fields)
        if ttl_ms > 0:
            yield [(b"PEXPIRE", key, b"%d" % ttl_ms)]
        raise WrongType
    refuse_error(stored)


def delete_own(key: bytes, kind: store.Kind, id_: bytes, names: Iterable[bytes]) -> Generator[Any, Any, None]:
    """
    Delete fields of a hash that has just been written, unless another client has replaced it meanwhile.

    That is one step, except for a user who may not run scripts.
    """
    _, id_field, _ = kind.head
    (deleted,) = yield [(b"EVAL", _DELETE_OWN, b"1", key, id_field, id_, *names)]
    if isinstance(deleted, ReplyError):
        (held,) = yield [(b"HGET", key, id_field)]
        if held == id_:
            yield [(b"HDEL", key, *names)]


def delete_hash(client: Client, key: bytes, kind: store.Kind, missing: str) -> Plan:
    """
    Delete exactly the fields of the kind.

    Raise CommandError(missing) if there is no key, WrongType if the key holds another kind.
    """
    # Before a login, Redis closes the connection at a command as long as HDEL, so another one must come first. A key
    # that goes between the two is looked at again. Inside MULTI nothing can come or go.
    for _ in range(1 if client.in_transaction else _LOOKS):
        exists, deleted = yield [(b"EXISTS", key), (b"HDEL", key, *kind.fields)]
        refuse_error(exists, deleted)
        if deleted:
            return replies.OK
        if not exists:
            raise CommandError(missing)
    raise WrongType


def scanned(client: Client, kind: store.Kind) -> Plan:
    """Return the reply to a scan: all models or scripts with their tags. Raise CommandError if it is too large."""
    tags = yield from scan_tags(client, kind)
    return replies.array([replies.array([replies.bulk(key), replies.text(tag)]) for key, tag in tags.items()])


def scan_tags(client: Client, kind: store.Kind) -> Generator[Any, Any, dict[bytes, str]]:
    """
    Return the tags of all models or scripts, by key. A key that can't be read as one is left out.

    Inside MULTI only the keys that the same transaction stored earlier are read in place. All others are scanned after
    EXEC, because a scan in the middle of the transaction would block Redis for its whole duration.
    """
    own: dict[bytes, str] = {}
    if client.transaction is not None:
        keys = list(client.transaction.stored)
        _, *values = yield [(b"PING",), *_heads(kind, keys)]
        own = _tags(kind, keys, values)
    found: dict[bytes, str] = {}
    budget = reply_budget(client.engine.settings)
    cursor = b"0"
    while True:
        (slice_,) = yield [(b"SCAN", cursor, b"TYPE", b"hash", b"COUNT", _SLICE)]
        refuse_error(slice_)
        cursor, keys = slice_
        if keys:
            marked = present(keys, (yield Limited([(b"HGET", key, kind.marker) for key in keys], MAX_METADATA)))
            for group in _groups(list(marked)):
                tags = _tags(kind, group, (yield Limited(_heads(kind, group), MAX_METADATA)))
                budget.take(sum([_LISTED_BYTES + len(key) + len(tag) for key, tag in tags.items()]))
                found |= tags
        if cursor == b"0":
            return found | own


def _groups(keys: list[bytes]) -> list[list[bytes]]:
    return [keys[start : start + _GROUP] for start in range(0, len(keys), _GROUP)]


def _heads(kind: store.Kind, keys: Sequence[bytes]) -> list[UpstreamCommand]:
    return [(b"HGET", key, field) for key in keys for field in kind.head]


def _tags(kind: store.Kind, keys: Sequence[bytes], values: Sequence[Any]) -> dict[bytes, str]:
    """Return the tags of keys, by the replies to `_heads`."""
    tags = {}
    for place, key in enumerate(keys):
        with suppress(BadMetadata):
            tags[key] = kind.tag(*values[3 * place : 3 * place + 3])
    return tags


def present(keys: Sequence[bytes], values: Sequence[Any]) -> dict[bytes, bytes]:
    return {key: value for key, value in zip(keys, values, strict=True) if isinstance(value, bytes)}
