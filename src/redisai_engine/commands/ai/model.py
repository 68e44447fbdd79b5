"""
AI.MODELSTORE, AI.MODELGET, AI.MODELDEL, AI._MODELSCAN, AI._MODELID and the deprecated AI.MODELSET.

A model is one hash (`redis/store.py`). It is loaded before it is stored, so that everything in the store can run. A
store that fails changes nothing. A large model under a new key is written while it is loaded, as soon as it has been
tried out, and deleted if it can't be loaded after all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from redisai_engine.commands.ai.model_hash import read_meta, read_model, read_model_at_once
from redisai_engine.commands.budget import reply_budget
from redisai_engine.commands.client import Client
from redisai_engine.commands.grammar.models import ModelOptions, parse_modelset, parse_modelstore
from redisai_engine.commands.hashes import (
    READ_RIGHT,
    check_writable,
    delete_hash,
    delete_own,
    finish_writing,
    read_fields,
    scanned,
    write_hash,
    writing,
)
from redisai_engine.commands.steps import Load, LoadAndAsk, Plan, TryOut, UpstreamCommand
from redisai_engine.commands.table import DELETE, NO_KEYS, READ, WRITE, Keys, command
from redisai_engine.errors import BadMetadata, EngineError
from redisai_engine.execution.job import RunnableModel
from redisai_engine.protocol import replies, texts
from redisai_engine.redis import store
from redisai_engine.service.warming import MOST_BYTES, warm_up

#: Bytes of a model above which it is written while it is loaded: with smaller ones nothing would be gained.
_LARGE = store.BLOB_FIELD_SIZE

_STORING = ("EXISTS", "HGET", "PTTL", "HSET", "HDEL", "PERSIST")


@command(
    "AI.MODELSTORE", arity=(6, None), flags=WRITE, keys=Keys(1), summary="Stores a model under a key", made_of=_STORING
)
def modelstore(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.MODELSTORE key backend device [TAG tag] [BATCHSIZE n [MINBATCHSIZE m [MINBATCHTIMEOUT ms]]] [ISOLATE] [INPUTS
    count name ... OUTPUTS count name ...] BLOB chunk ..."""
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
    is_free = yield from check_writable(client, key, store.MODEL)
    asked = store.ModelInfo(
        options.backend,
        options.device,
        options.tag,
        options.batch_size,
        options.min_batch_size,
        options.min_batch_timeout_ms,
        tuple(options.inputs),
        tuple(options.outputs),
        len(blob),
        options.isolate,
    )
    put = _put_large if is_free and len(blob) > _LARGE else put_model
    return (yield from put(client, key, asked, blob, expiry=(b"PERSIST", key)))


def put_model(
    client: Client,
    key: bytes,
    asked: store.ModelInfo,
    blob: bytes,
    *,
    expiry: UpstreamCommand,
    before: Sequence[UpstreamCommand] = (),
) -> Plan:
    """
    Load a model and write it under the key, replacing an older one. Raise ModelLoadError if it can't be loaded.

    `expiry` and `before` are passed on to `write_hash`, which raises the other errors.
    """
    model = yield Load((client.database, key), asked, blob)
    if len(blob) <= MOST_BYTES:
        warm_up(client.engine, model)
    meta = dataclasses.replace(
        asked,
        inputs=tuple(model.loaded.inputs),
        outputs=tuple(model.loaded.outputs),
        isolate=asked.isolate or client.engine.placement.is_isolated(asked.backend, model.loaded),
    )
    yield from write_hash(client, key, store.MODEL, store.model_fields(meta, blob), expiry=expiry, before=before)
    _keep(client, key, meta, model)
    if len(blob) <= MOST_BYTES:
        client.engine.stored(client.user, client.database, key)
    return replies.OK


def _put_large(client: Client, key: bytes, asked: store.ModelInfo, blob: bytes, *, expiry: UpstreamCommand) -> Plan:
    """
    Do the same for a key that is free: write the model while it is loaded, once it has passed its probation.

    If it then can't be loaded after all, it is deleted again. An older model would be lost, so if another client has
    come to store one by then, this one is loaded first, too.
    """
    tried = yield TryOut(asked, blob)
    is_free = yield from check_writable(client, key, store.MODEL)
    if tried is None or tried.passed.danger or tried.passed.names is None or not is_free:
        return (yield from put_model(client, key, asked, blob, expiry=expiry))
    inputs, outputs = tried.passed.names
    meta = dataclasses.replace(asked, inputs=inputs, outputs=outputs)
    fields = store.model_fields(meta, blob)
    load, commands = Load((client.database, key), asked, blob), writing(key, store.MODEL, fields)
    model, answers = yield LoadAndAsk(load, tried, commands)
    yield from finish_writing(key, store.MODEL, fields, answers, expiry=expiry)
    if isinstance(model, EngineError):
        yield from delete_own(key, store.MODEL, meta.id.encode(), store.MODEL.fields)
        raise model
    _keep(client, key, meta, model)
    return replies.OK


def _keep(client: Client, key: bytes, meta: store.ModelInfo, model: RunnableModel) -> None:
    """Keep what was just written."""
    models, id_ = client.engine.models, meta.id.encode()
    models.forget(client.database, key)
    models.keep(client.database, key, id_, model)
    models.track(client.database, key, id_, model)


def _asked(arguments: Sequence[bytes]) -> set[bytes]:
    return {word.upper() for word in arguments[2:]} & {b"META", b"BLOB"} or {b"META", b"BLOB"}


@command(
    "AI.MODELGET",
    arity=(2, 4),
    flags=READ,
    keys=Keys(1),
    single_step=lambda arguments: _asked(arguments) == {b"META"},
    summary="Returns a model's metadata and blob",
    made_of=("EXISTS", "HMGET"),
)
def modelget(client: Client, arguments: Sequence[bytes]) -> Plan:
    """AI.MODELGET key [META] [BLOB]"""
    words = _asked(arguments)
    if words == {b"META"}:
        return replies.array(_meta_reply((yield from read_meta(client, arguments[1]))))

    def check(meta: store.ModelInfo) -> None:
        reply_budget(client.engine.settings).take(meta.blob_size)

    read = read_model_at_once if client.in_transaction else read_model
    meta, whole = yield from read(client, arguments[1], check)
    blob = _blob_reply(whole, client.engine.model_chunk_size)
    if words == {b"BLOB"}:
        return blob
    return replies.array([*_meta_reply(meta), replies.text("blob"), blob])


def _meta_reply(meta: store.ModelInfo) -> list[bytes]:
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
    _, id_ = yield from read_fields(client, key, (store.MARKER, store.ID), missing=texts.MODEL_MISSING)
    if not isinstance(id_, bytes):
        raise BadMetadata("is missing", "id")
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
        reply = yield from delete_hash(client, key, store.MODEL, texts.MODEL_MISSING)
    finally:
        models.forget(client.database, key)  # again: a run may have cached it while HDEL was in flight
    models.deleted(client.database, key)
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
    return (yield from scanned(client, store.MODEL))
