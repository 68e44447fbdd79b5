"""
Find the model that a key holds now, as this client may see it.

Invariant: a run uses the version that the store holds when the command arrives. Only a change made past this engine may
take milliseconds to be noticed (`service/models.py`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from redisai_engine.commands.ai.model import meta_of
from redisai_engine.commands.client import Client
from redisai_engine.commands.hashes import READ_RIGHT, hash_of, values_of
from redisai_engine.commands.steps import Load
from redisai_engine.execution.job import RunnableModel
from redisai_engine.redis import store
from redisai_engine.service.models import KnownModel

RESOLVING = ("EXISTS", "HMGET", "HGETALL")  # the plain commands that resolving sends


def known_model(client: Client, key: bytes) -> KnownModel | None:
    """Return the model if both it and the client's right to read it are known without asking Redis."""
    known = client.engine.models.known(client.database, key)
    return known if known is not None and client.rights.has(key, READ_RIGHT) else None


def resolve_model(client: Client, key: bytes) -> Generator[Any, Any, RunnableModel]:
    """
    Find the model that the key holds now, and load it if this process hasn't yet.

    Raise CommandError if there is no key, WrongType if it holds no model, UpstreamError without the right to read it.
    """
    known = known_model(client, key) if client.may_trust else None
    if known is not None:
        return known.model
    exists, values = yield [(b"EXISTS", key), (b"HMGET", key, store.MARKER, store.ID, store.META)]
    marker, id_, meta = values_of(values)
    meta_of(exists, {store.MARKER: marker, store.META: meta})
    client.rights.grant(key, READ_RIGHT)
    models = client.engine.models
    model = models.loaded(id_)
    if model is None:
        id_, model = yield from _load(key)
    models.note_version(client.database, key, id_)
    models.track(client.database, key, id_, model)
    return model


def _load(key: bytes) -> Generator[Any, Any, tuple[bytes, RunnableModel]]:
    exists, values = yield [(b"EXISTS", key), (b"HGETALL", key)]
    fields = hash_of(values)
    meta = meta_of(exists, fields)
    return meta.id.encode(), (yield Load(meta, b"".join(fields[name] for name in meta.blob_fields)))
