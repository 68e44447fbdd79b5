"""
Reading models from their hashes, which anybody who may write the key may have written: nothing in them is trusted.

Invariant: what is returned was stored by one command, and no more is read than its metadata announces. Inside MULTI
everything must be read in one step, so only what Redis holds bounds it there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from redisai_engine.commands.hashes import values_of
from redisai_engine.commands.steps import Limited
from redisai_engine.errors import BadMetadata, CommandError, WrongType
from redisai_engine.protocol import texts
from redisai_engine.redis import store
from redisai_engine.redis.metadata import MAX_METADATA

_ATTEMPTS = 10
_HEAD = (store.MARKER, store.ID, store.META)
_FRAME = 64  # bytes that the protocol puts around the values of a reply


def read_meta(key: bytes) -> Generator[Any, Any, store.ModelInfo]:
    """Read a model's metadata. Raise CommandError if there is no key, WrongType for another kind, BadMetadata."""
    exists, values = yield Limited([(b"EXISTS", key), (b"HMGET", key, *_HEAD)], MAX_METADATA)
    return meta_of(exists, values_of(values))


def meta_of(exists: Any, head: Sequence[Any]) -> store.ModelInfo:
    """Return the metadata in marker, id and description. Raise the errors of `read_meta`."""
    marker, id_, meta = head
    check_marker(exists, marker)
    return store.parse_meta(meta, id_)


def check_marker(exists: Any, marker: Any) -> None:
    """Raise CommandError if there is no key, WrongType if it holds no model, BadMetadata for another format."""
    if marker is None:
        raise WrongType if exists else CommandError(texts.MODEL_MISSING)
    store.check_format(marker)


def accept_any(meta: store.ModelInfo) -> None:
    """Accept a model whatever its size: the default of `check`."""


def read_model(
    key: bytes, check: Callable[[store.ModelInfo], None] = accept_any
) -> Generator[Any, Any, tuple[store.ModelInfo, bytes]]:
    """
    Read a model and its blob, part by part. Raise the errors of `read_meta`.

    `check` is called with the metadata before anything of the blob is read, and may raise an error.
    """
    for _ in range(_ATTEMPTS):
        meta = yield from read_meta(key)
        check(meta)
        blob = yield from _read_blob(key, meta)
        if blob is not None:
            return meta, blob
    raise CommandError(texts.MODEL_REPLACED)


def _read_blob(key: bytes, meta: store.ModelInfo) -> Generator[Any, Any, bytes | None]:
    """Read a blob. Return None if the key came to hold something else meanwhile."""
    parts = []
    for name, size in meta.blob_fields:
        (values,) = yield Limited([(b"HMGET", key, store.ID, name)], size + len(meta.id) + _FRAME)
        id_, part = values_of(values)
        if id_ != meta.id.encode():
            return None
        parts.append(_checked(name, part, size))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_model_at_once(
    key: bytes, check: Callable[[store.ModelInfo], None] = accept_any
) -> Generator[Any, Any, tuple[store.ModelInfo, bytes]]:
    """Read a model and its blob in one step, as MULTI requires. `check` and errors are those of `read_model`."""
    exists, values = yield [(b"EXISTS", key), (b"HMGET", key, *_HEAD, *store.MODEL_BLOB_FIELDS)]
    found = values_of(values)
    meta = meta_of(exists, found[: len(_HEAD)])
    check(meta)
    parts = zip(meta.blob_fields, found[len(_HEAD) :], strict=False)
    return meta, b"".join(_checked(name, part, size) for (name, size), part in parts)


def _checked(name: bytes, part: Any, size: int) -> bytes:
    if not isinstance(part, bytes):
        raise BadMetadata("is missing", f"field {name.decode()}")
    if len(part) != size:
        raise BadMetadata(f"has {len(part)} bytes, but its description announces {size}", f"field {name.decode()}")
    return part
