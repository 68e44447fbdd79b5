"""
Find the model that a key holds now, as this client may see it.

Invariant: a run uses the version that the store holds when the command arrives. Only a change made past this engine may
take milliseconds to be noticed (`service/models.py`).
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

from redisai_engine.commands.ai.model_hash import read_meta, read_model
from redisai_engine.commands.client import Client
from redisai_engine.commands.hashes import READ_RIGHT
from redisai_engine.commands.steps import Load
from redisai_engine.execution.job import RunnableModel
from redisai_engine.service.models import KnownModel

RESOLVING = ("EXISTS", "HMGET")  # the plain commands that resolving sends


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
    meta = yield from read_meta(client, key)
    client.rights.grant(key, READ_RIGHT)
    models = client.engine.models
    database = client.database
    model = models.loaded(database, key, meta.id.encode())
    if model is None:
        place = (database, key)
        meta, blob = yield from read_model(client, key, partial(client.engine.loader.check, place))
        model = yield Load(place, meta, blob, for_run=True)
        models.keep(database, key, meta.id.encode(), model)
    models.track(database, key, meta.id.encode(), model)
    return model
