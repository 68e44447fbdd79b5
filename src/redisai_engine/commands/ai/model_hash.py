"""
Reading models from their hashes, which anybody who may write the key may have written: nothing in them is trusted.

Invariant: what is returned was stored by one command, and no more is read than its metadata announces. Inside MULTI
everything must be read in one step, so only what Redis holds bounds it there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from redisai_engine.commands.client import Client
from redisai_engine.commands.hashes import read_fields
from redisai_engine.commands.steps import Limited, refuse_error
from redisai_engine.errors import BadMetadata, CommandError
from redisai_engine.protocol import texts
from redisai_engine.redis import store

_ATTEMPTS = 10
#: The fields that tell what a hash holds, and which version of it.
MODEL_HEAD = (store.MARKER, store.ID, store.META)
_FRAME = 64  # bytes that the protocol puts around the values of a reply


def read_meta(client: Client, key: bytes) -> Generator[Any, Any, store.ModelInfo]:
    """Read a model's metadata. Raise CommandError if there is no key, WrongType for another kind, BadMetadata."""
    _, id_, meta = yield from read_fields(client, key, MODEL_HEAD, missing=texts.MODEL_MISSING)
    return store.parse_meta(meta, id_)


def accept_any(meta: store.ModelInfo) -> None:
    """Accept a model whatever its size: the default of `check`."""


def read_model(
    client: Client, key: bytes, check: Callable[[store.ModelInfo], None] = accept_any
) -> Generator[Any, Any, tuple[store.ModelInfo, bytes]]:
    """
    Read a model and its blob, part by part. Raise the errors of `read_meta`.

    `check` is called with the metadata before anything of the blob is read, and may raise an error.
    """
    for _ in range(_ATTEMPTS):
        meta = yield from read_meta(client, key)
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
        refuse_error(values)
        id_, part = values
        if id_ != meta.id.encode():
            return None
        parts.append(_checked(name, part, size))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_model_at_once(
    client: Client, key: bytes, check: Callable[[store.ModelInfo], None] = accept_any
) -> Generator[Any, Any, tuple[store.ModelInfo, bytes]]:
    """Read a model and its blob in one step, as MULTI requires. `check` and errors are those of `read_model`."""
    names = (*MODEL_HEAD, *store.MODEL_BLOB_FIELDS)
    _, id_, described, *found = yield from read_fields(client, key, names, missing=texts.MODEL_MISSING, most=None)
    meta = store.parse_meta(described, id_)
    check(meta)
    parts = zip(meta.blob_fields, found, strict=False)
    return meta, b"".join(_checked(name, part, size) for (name, size), part in parts)


def _checked(name: bytes, part: Any, size: int) -> bytes:
    if not isinstance(part, bytes):
        raise BadMetadata("is missing", f"field {name.decode()}")
    if len(part) != size:
        raise BadMetadata(f"has {len(part)} bytes, but its description announces {size}", f"field {name.decode()}")
    return part
