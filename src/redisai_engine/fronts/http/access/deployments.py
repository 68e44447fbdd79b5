"""
A deployment: a model together with what the plugin has recorded beside it, above all the mapping.

Theory of operation. A record belongs to the model that was stored with it, in one transaction. So it is read between
two questions for the model's id, and kept as long as that model is in memory. Its id, and the client's right to read
it, are asked for again each second.

Invariant: a mapping is never used with another model than the one that it was made for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from redisai_engine.backends.base import WIDENED, LoadedModel
from redisai_engine.codec.encoder import Encoder
from redisai_engine.codec.errors import CodecError
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.record import ID_FIELD, fingerprint, mapping_of, record_key, texts
from redisai_engine.commands.ai.model_hash import MODEL_HEAD
from redisai_engine.commands.ai.resolving import resolve_model
from redisai_engine.commands.client import Client
from redisai_engine.commands.hashes import READ_RIGHT
from redisai_engine.commands.steps import Limited, refuse_error
from redisai_engine.execution.job import RunnableModel
from redisai_engine.fronts.http.access.connection import Steps
from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.redis import store
from redisai_engine.redis.store import ModelInfo

_ATTEMPTS = 10
_MOST_BYTES = 64 * 2**20  # of a record; its largest part is a tokenizer
_ID = ID_FIELD.encode()


@dataclass(frozen=True, slots=True)
class ServedDeployment:
    """What is known beside a model. Without a record, `fields` is empty and the mapping is by position."""

    mapping: Mapping
    encoder: Encoder
    fields: dict[str, str]

    @property
    def id(self) -> str | None:
        return self.fields.get(ID_FIELD)


def resolve_deployment(client: Client, key: bytes) -> Steps[tuple[RunnableModel, ServedDeployment]]:
    """
    Find the model that the key holds now, and its deployment.

    Raise EngineError as `resolve_model` does, and if the client may not read the record or it can't be read.
    """
    for _ in range(_ATTEMPTS):
        model = yield from resolve_model(client, key)
        deployment = yield from _deployment_of(client, key, model)
        if deployment is not None:
            return model, deployment
    raise RequestRefused(503, "the deployment is being changed again and again; try again later")


def _deployment_of(client: Client, key: bytes, model: RunnableModel) -> Steps[ServedDeployment | None]:
    """Return the deployment of this model, or None if the key came to hold another one meanwhile."""
    record, place = record_key(key), (client.database, key)
    known: ServedDeployment | None = model.records.get(place)
    if known is not None:
        if client.may_trust and client.rights.has(record, READ_RIGHT):
            return known
        (id_,) = yield Limited([(b"HGET", record, _ID)], 1024)
        if not _is_no_hash(id_):
            refuse_error(id_)
        if (id_.decode("utf-8", "replace") if isinstance(id_, bytes) else None) == known.id:
            client.rights.grant(record, READ_RIGHT)
            return known
    return (yield from read_deployment(client, key, model))


def read_deployment(
    client: Client, key: bytes, model: RunnableModel, *, most: int = _MOST_BYTES
) -> Steps[ServedDeployment | None]:
    """
    Read what is recorded beside a model in memory, in one round trip. Return None if the key doesn't hold that model.

    Raise EngineError if the client may not read either, or if the record has more than `most` bytes.
    """
    record, place = record_key(key), (client.database, key)
    commands = [(b"HMGET", key, *MODEL_HEAD), (b"HGETALL", record), (b"HMGET", key, store.ID)]
    described, answer, after = yield Limited(commands, most)
    refuse_error(described, after)
    marker, id_, meta = described
    if marker is None or not isinstance(id_, bytes) or after != [id_]:
        return None
    store.check_format(marker)
    if client.engine.models.peek(place, id_) is not model:
        return None
    client.rights.grant(key, READ_RIGHT)
    deployment = _read(answer, store.parse_meta(meta, id_), model.loaded)
    client.rights.grant(record, READ_RIGHT)
    model.records[place] = deployment
    return deployment


def _is_no_hash(answer: Any) -> bool:
    return isinstance(answer, ReplyError) and answer.text.startswith("WRONGTYPE")


def _read(answer: Any, meta: ModelInfo, loaded: LoadedModel) -> ServedDeployment:
    """Return what HGETALL says of a model. Raise RequestRefused for a record that can't be read."""
    if not _is_no_hash(answer):
        refuse_error(answer)
    fields = _pairs(answer)
    try:
        found = texts(fields) if fields else {}
        if found and found.get("fingerprint") == _fingerprint(meta):
            mapping = mapping_of(found)
            return ServedDeployment(mapping, Encoder(mapping), found)
        mapping = _generic(meta, loaded)
        return ServedDeployment(mapping, Encoder(mapping), {})
    except CodecError as error:
        raise RequestRefused(503, str(error)) from None


def _generic(meta: ModelInfo, loaded: LoadedModel) -> Mapping:
    """Return the mapping of a model without a record: arrays by position, in the types that the model tells."""
    mapping = Mapping.generic(list(meta.inputs), list(meta.outputs))
    if not loaded.input_infos:
        return mapping
    told = zip(mapping.inputs, loaded.input_infos, strict=True)
    inputs = (replace(item, dtype=dtypes.by_numpy(WIDENED.get(info.dtype, info.dtype))) for item, info in told)
    return replace(mapping, inputs=tuple(inputs))


def _pairs(answer: Any) -> dict[bytes, bytes]:
    if not isinstance(answer, list):
        return {}
    return dict(zip(answer[::2], answer[1::2], strict=True))


def _fingerprint(meta: ModelInfo) -> str:
    return fingerprint(
        backend=meta.backend,
        device=meta.device,
        tag=meta.tag,
        batchsize=meta.batch_size,
        minbatchsize=meta.min_batch_size,
        minbatchtimeout=meta.min_batch_timeout_ms,
        inputs=list(meta.inputs),
        outputs=list(meta.outputs),
    )
