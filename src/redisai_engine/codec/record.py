"""
The record next to a model: its keys, and what a prediction reads from it. Pure functions of keys and fields.

Next to the model KEY, in the same cluster slot, there is one Redis hash for everything that RedisAI has no place for.
The keys that belong to a model start with `mlflow-redisai:{TAG}:`, where TAG determines KEY's slot:

    mlflow-redisai:{TAG}:record:KEY      the record
    mlflow-redisai:{TAG}:verify:ID       a model that is being verified, for about a minute

Only the plugin writes records.

Invariant: a record counts only while its fingerprint matches the model's.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from typing import TYPE_CHECKING

from redisai_engine.codec.errors import DamagedMapping, UnknownRecordFormat
from redisai_engine.protocol.patterns import OWN_KEYS, VERIFYING

if TYPE_CHECKING:
    from redisai_engine.codec.mapping import Mapping

FORMAT = 1
# The field with an id that is new for every deployment.
ID_FIELD = "id"

_CLUSTER_SLOTS = 16384


# -- keys ----------------------------------------------------------------------------------------


def record_key(model: bytes) -> bytes:
    """Return the key of the record for the model under the key `model`."""
    return b"%s{%s}:record:%s" % (OWN_KEYS, _slot_tag(model), model)


def verification_key(model: bytes, unique: str) -> bytes:
    """Return a key for a model that is being verified, in the slot of `model`."""
    return b"%s{%s}%s%s" % (OWN_KEYS, _slot_tag(model), VERIFYING, unique.encode())


def is_own_key(key: bytes) -> bool:
    """Return whether a key is one of the plugin's, as above, and so not a deployed model."""
    return key.startswith(OWN_KEYS)


def _slot_tag(key: bytes) -> bytes:
    """Return the text that, between braces, gives a key the cluster slot of `key` (Redis Cluster's hash tags)."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start >= 0 and end > start + 1:
        return key[start + 1 : end]
    if b"}" not in key:
        return key
    # A name such as "a}b" can't be put between braces. Some number has its slot.
    wanted = binascii.crc_hqx(key, 0) % _CLUSTER_SLOTS
    number = 0
    while binascii.crc_hqx(b"%d" % number, 0) % _CLUSTER_SLOTS != wanted:
        number += 1
    return b"%d" % number


# -- fields --------------------------------------------------------------------------------------


def texts(fields: AnyMapping[bytes, bytes]) -> dict[str, str]:
    """
    Return a record's fields, from HGETALL, as text. Bytes that are not UTF-8 become surrogates.

    Raise UnknownRecordFormat for a record that another version wrote.
    """
    found = {_text(name): _text(value) for name, value in fields.items()}
    if found.get("format") != str(FORMAT):
        raise UnknownRecordFormat(found.get("format"), FORMAT)
    return found


def mapping_of(found: AnyMapping[str, str]) -> Mapping:
    """
    Return the mapping in a record's `texts`.

    Raise UnreadableMapping if a newer version wrote it, DamagedMapping if none did.
    """
    from redisai_engine.codec.mapping import Mapping  # who only needs keys doesn't

    try:
        data = json.loads(found["mapping"])
    except (LookupError, ValueError, RecursionError) as error:
        raise DamagedMapping(f"{type(error).__name__}: {error}") from None
    return Mapping.from_json(data)


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
    Return a digest of a model's metadata, as AI.MODELGET META returns it.

    It identifies the model that was recorded, and differs once META shows that another model has taken its place.
    """
    import hashlib

    fields = [backend, device, tag, batchsize, minbatchsize, minbatchtimeout, inputs, outputs]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:32]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
