"""
The record beside a model: its keys, and what whoever predicts reads in it. Pure functions of keys and fields.

Beside the model KEY lies one Redis hash in the same cluster slot, which says what RedisAI has no place for. Keys that
belong to it start with `mlflow-redisai:{TAG}:`, where TAG is what decides about KEY's slot:

    mlflow-redisai:{TAG}:record:KEY      the record
    mlflow-redisai:{TAG}:verify:ID       a model that is being verified, for a minute or so

The plugin writes records. Invariant: a record counts only while its fingerprint is that of the model.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence

from redisai_engine.codec.errors import UnknownRecordFormat
from redisai_engine.codec.mapping import Mapping

PREFIX = b"mlflow-redisai:"
FORMAT = 1
# The field with an id that is fresh for every deployment.
ID_FIELD = "id"

_CLUSTER_SLOTS = 16384


# -- keys ----------------------------------------------------------------------------------------


def record_key(model: bytes) -> bytes:
    """Return the key of the record of the model under the key `model`."""
    return b"%s{%s}:record:%s" % (PREFIX, _slot_tag(model), model)


def verification_key(model: bytes, unique: str) -> bytes:
    """Return a key in the slot of `model` for a model that is being verified."""
    return b"%s{%s}:verify:%s" % (PREFIX, _slot_tag(model), unique.encode())


def is_own_key(key: bytes) -> bool:
    """Return whether a key is one of those above, and no model that anybody deployed."""
    return key.startswith(PREFIX)


def _slot_tag(key: bytes) -> bytes:
    """Return what must be between braces for a key to get the cluster slot of `key` (Redis Cluster's hash tags)."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start >= 0 and end > start + 1:
        return key[start + 1 : end]
    if b"}" not in key:
        return key
    # A name such as "a}b" can't be between braces: some number has its slot.
    wanted = binascii.crc_hqx(key, 0) % _CLUSTER_SLOTS
    number = 0
    while binascii.crc_hqx(b"%d" % number, 0) % _CLUSTER_SLOTS != wanted:
        number += 1
    return b"%d" % number


# -- fields --------------------------------------------------------------------------------------


def texts(fields: AnyMapping[bytes, bytes]) -> dict[str, str]:
    """
    Return a record's fields, as HGETALL gives them, as text; bytes that are no utf-8 become surrogates.

    Raise UnknownRecordFormat for a record that another version wrote.
    """
    found = {_text(name): _text(value) for name, value in fields.items()}
    if found.get("format") != str(FORMAT):
        raise UnknownRecordFormat(found.get("format"), FORMAT)
    return found


def mapping_of(found: AnyMapping[str, str]) -> Mapping:
    """Return the mapping in a record's `texts`. Raise UnreadableMapping if a newer version wrote it."""
    return Mapping.from_json(json.loads(found["mapping"]))


def fingerprint(
    *,
    backend: str,
    device: str,
    tag: str,
    batchsize: int,
    minbatchsize: int,
    minbatchtimeout: int,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> str:
    """
    Return a digest of what AI.MODELGET META tells of a model.

    It is equal for the model that was recorded, and differs as soon as META shows that another one took its place.
    """
    fields = [backend, device, tag, batchsize, minbatchsize, minbatchtimeout, inputs, outputs]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:32]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
