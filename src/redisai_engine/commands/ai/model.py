"""
AI.MODELSTORE, AI.MODELGET, AI.MODELDEL, AI._MODELSCAN, AI._MODELID and the deprecated AI.MODELSET.

A model is one hash (`redis/store.py`). It is loaded before it is stored, so that everything in the store can run. A
store that fails changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.models import ModelOptions, parse_modelset, parse_modelstore
from redisai_engine.commands.hashes import (
    READ_RIGHT,
    check_writable,
    delete_hash,
    hash_of,
    scan_hashes,
    values_of,
    write_hash,
)
from redisai_engine.commands.steps import Load, Plan, UpstreamCommand
from redisai_engine.commands.table import DELETE, NO_KEYS, READ, WRITE, Keys, command
from redisai_engine.errors import CommandError, WrongType
from redisai_engine.protocol import replies, texts
from redisai_engine.redis import store

_STORING = ("EXISTS", "HGET", "PTTL", "HSET", "HDEL", "PERSIST")


@command(
    "AI.MODELSTORE", arity=(6, None), flags=WRITE, keys=Keys(1), summary="Stores a model under a key", made_of=_STORING
)
def modelstore(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.MODELSTORE key backend device [TAG tag] [BATCHSIZE n [MINBATCHSIZE m [MINBATCHTIMEOUT ms]]] [INPUTS count
    name ... OUTPUTS count name ...] BLOB chunk ..."""
    return (yield from _store(client, arguments[1], *parse_modelstore(arguments[2:])))


@command(
    "AI.MODELSET",
    arity=(4, None),
    flags=WRITE,
    keys=Keys(1),
    summary="Deprecated form of AI.MODELSTORE",
    made_of=_STORING,
)
def modelset(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.MODELSET key backend device [TAG tag] [BATCHSIZE n ...] [INPUTS name ... OUTPUTS name ...] BLOB chunk ..."""
    return (yield from _store(client, arguments[1], *parse_modelset(arguments[2:])))


def _store(client: Client, key: bytes, options: ModelOptions, blob: bytes) -> Plan:
    yield from check_writable(client, key, store.MODEL)
    asked = store.ModelMeta(
        options.backend,
        options.device,
        options.tag,
        options.batch_size,
        options.min_batch_size,
        options.min_batch_timeout_ms,
        tuple(options.inputs),
        tuple(options.outputs),
        len(blob),
    )
    return (yield from put_model(client, key, asked, blob, expiry=(b"PERSIST", key)))


def put_model(
    client: Client,
    key: bytes,
    asked: store.ModelMeta,
    blob: bytes,
    *,
    expiry: UpstreamCommand,
    before: Sequence[UpstreamCommand] = (),
) -> Plan:
    """
    Load a model and write it under the key, replacing an older one. Raise ModelLoadError if it can't be loaded.

    `expiry` and `before` are passed on to `write_hash`, which raises the other errors.
    """
    model = yield Load(asked, blob)
    meta = dataclasses.replace(asked, inputs=tuple(model.loaded.inputs), outputs=tuple(model.loaded.outputs))
    yield from write_hash(client, key, store.MODEL, store.model_fields(meta, blob), expiry=expiry, before=before)
    client.engine.models.forget(client.database, key)
    client.engine.models.note_version(client.database, key, meta.id.encode())
    return replies.OK


@command(
    "AI.MODELGET",
    arity=(2, 4),
    flags=READ,
    keys=Keys(1),
    single_step=True,
    summary="Returns a model's metadata and blob",
    made_of=("EXISTS", "HMGET", "HGETALL"),
)
def modelget(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.MODELGET key [META] [BLOB]"""
    words = {word.upper() for word in arguments[2:]} & {b"META", b"BLOB"} or {b"META", b"BLOB"}
    if words == {b"META"}:
        exists, values = yield [(b"EXISTS", arguments[1]), (b"HMGET", arguments[1], store.MARKER, store.META)]
        fields = dict(zip((store.MARKER, store.META), values_of(values), strict=True))
    else:
        exists, values = yield [(b"EXISTS", arguments[1]), (b"HGETALL", arguments[1])]
        fields = hash_of(values)
    check_model(exists, fields)
    if words == {b"META"}:
        return _meta_alone(fields[store.META])
    meta = store.parse_meta(fields[store.META])
    blob = _blob_reply(b"".join(fields[name] for name in meta.blob_fields), client.engine.model_chunk_size)
    if words == {b"BLOB"}:
        return blob
    return replies.array([*_meta_reply(meta), replies.text("blob"), blob])


def check_model(exists: Any, fields: dict[bytes, Any]) -> None:
    """Raise CommandError if there is no key, WrongType if the key holds no model."""
    if fields.get(store.MARKER) is None:
        if exists:
            raise WrongType
        raise CommandError(texts.MODEL_MISSING)


def meta_of(exists: Any, fields: dict[bytes, Any]) -> store.ModelMeta:
    """Return a model's metadata. Raise the errors of `check_model`."""
    check_model(exists, fields)
    return store.parse_meta(fields[store.META])


@lru_cache(maxsize=256)  # clients ask repeatedly whether a model is still the same
def _meta_alone(raw: bytes) -> bytes:
    return replies.array(_meta_reply(store.parse_meta(raw)))


def _meta_reply(meta: store.ModelMeta) -> list[bytes]:
    return [
        *(replies.text("backend"), replies.text(meta.backend)),
        *(replies.text("device"), replies.text(meta.device)),
        *(replies.text("tag"), replies.text(meta.tag)),
        *(replies.text("batchsize"), replies.integer(meta.batch_size)),
        *(replies.text("minbatchsize"), replies.integer(meta.min_batch_size)),
        *(replies.text("inputs"), replies.texts(meta.inputs)),
        *(replies.text("outputs"), replies.texts(meta.outputs)),
        *(replies.text("minbatchtimeout"), replies.integer(meta.min_batch_timeout_ms)),
    ]


def _blob_reply(blob: bytes, chunk_size: int) -> bytes:
    """
    Encode a blob: as it is if it is smaller than a chunk, otherwise as an array of chunks.

    The last chunk is empty if the size is a multiple of a chunk's, as in RedisAI.
    """
    if len(blob) < chunk_size:
        return replies.bulk(blob)
    view = memoryview(blob)
    return replies.array([replies.bulk(view[i : i + chunk_size]) for i in range(0, len(blob) + 1, chunk_size)])


@command(
    "AI._MODELID",
    arity=(2, 2),
    flags=READ,
    keys=Keys(1),
    single_step=True,
    summary="Returns the id of a model's stored version; every store assigns a new one (RedisAI has no such command)",
    made_of=("EXISTS", "HMGET"),
    in_redisai=False,
)
def modelid(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI._MODELID key"""
    key, models = arguments[1], client.engine.models
    known = models.known(client.database, key) if client.may_trust and not client.in_transaction else None
    if known is not None and client.rights.has(key, READ_RIGHT):
        return replies.bulk(known.id)
    exists, values = yield [(b"EXISTS", key), (b"HMGET", key, store.MARKER, store.ID)]
    marker, id_ = values_of(values)
    check_model(exists, {store.MARKER: marker})
    models.forget_others(client.database, key, id_)  # no run after this reply may use an older version
    return replies.bulk(id_)


@command(
    "AI.MODELDEL",
    arity=(2, 2),
    flags=DELETE,
    keys=Keys(1),
    single_step=True,
    summary="Deletes a model",
    made_of=("EXISTS", "HDEL"),
)
def modeldel(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.MODELDEL key"""
    key = arguments[1]
    models = client.engine.models
    models.forget(client.database, key)
    try:
        reply = yield from delete_hash(key, store.MODEL, texts.MODEL_MISSING)
    finally:
        models.forget(client.database, key)  # again: a run may have cached it while HDEL was in flight
    models.note_version(client.database, key, None)
    return reply


@command(
    "AI._MODELSCAN",
    arity=(1, 1),
    flags=READ,
    keys=NO_KEYS,
    summary="Lists models with their tags",
    made_of=("SCAN", "HGET"),
)
def modelscan(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI._MODELSCAN"""
    metas = yield from scan_hashes(client, store.META)
    rows = [(key, store.parse_meta(meta).tag) for key, meta in metas.items()]
    return replies.array([replies.array([replies.bulk(key), replies.text(tag)]) for key, tag in rows])
