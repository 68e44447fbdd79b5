"""
The record: what a deployment is, as far as RedisAI has no place for it. Its keys and its fields; does no I/O.

Beside the model NAME lies one Redis hash in the same cluster slot. Keys of the plugin all start with
`mlflow-redisai:{TAG}:`, where TAG is what decides about NAME's slot:

    mlflow-redisai:{TAG}:record:NAME      the record
    mlflow-redisai:{TAG}:verify:ID        a model that is being verified, for a minute or so

Invariants: every deployment has an id of its own; a record counts only while its fingerprint is that of the model.
"""

from __future__ import annotations

import binascii
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mlflow_redisai.config import DeploymentOptions
from mlflow_redisai.errors import InvalidRequest, UnreadableRecord
from mlflow_redisai.server.commands import raw, text

PREFIX = "mlflow-redisai:"
FORMAT = 1
ID_FIELD = "id"
CLUSTER_SLOTS = 16384


# -- keys ----------------------------------------------------------------------------------------


def check_name(name: object) -> str:
    """Gives the name back if a model can be deployed under it. Raises InvalidRequest."""
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"a deployment's name is a text that is not empty, not {name!r}")
    if name.startswith(PREFIX):
        raise InvalidRequest(f"the name {name!r} is not allowed: keys starting with {PREFIX} are the plugin's own")
    if name == "|>":
        raise InvalidRequest("the name '|>' is not allowed: it separates the steps of a RedisAI command")
    return name


def record_key(name: str) -> bytes:
    return b"%s{%s}:record:%s" % (PREFIX.encode(), _slot_tag(raw(name)), raw(name))


def temporary_key(name: str) -> bytes:
    """A fresh key in the slot of `name`, for a model that is being verified."""
    return b"%s{%s}:verify:%s" % (PREFIX.encode(), _slot_tag(raw(name)), uuid.uuid4().hex.encode())


def is_own_key(key: bytes) -> bool:
    """Whether a key is the plugin's, so that list hides it."""
    return key.startswith(PREFIX.encode())


def _slot_tag(key: bytes) -> bytes:
    """What stands between braces so that a key gets the cluster slot of `key`."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start >= 0 and end > start + 1:
        return key[start + 1 : end]
    if b"}" not in key:
        return key
    # A name such as "a}b" can't stand between braces: some number has its slot.
    wanted = binascii.crc_hqx(key, 0) % CLUSTER_SLOTS
    number = 0
    while binascii.crc_hqx(b"%d" % number, 0) % CLUSTER_SLOTS != wanted:
        number += 1
    return b"%d" % number


# -- fields --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """One deployment. `signature` is MLflow's own dict of JSON texts, `mapping` what models.base makes of a mapping."""

    id: str
    flavor: str
    model_uri: str
    run_id: str | None
    signature: dict[str, Any] | None
    mapping: Any
    verification: Any
    notes: tuple[str, ...]
    options: DeploymentOptions
    fingerprint: str
    created: str

    @staticmethod
    def new_identity() -> dict[str, Any]:
        """The fields that are fresh for every deployment."""
        return {"id": uuid.uuid4().hex, "created": datetime.now(timezone.utc).isoformat(timespec="seconds")}

    def fields(self) -> dict[str, str]:
        """The fields of the Redis hash."""
        return {
            "format": str(FORMAT),
            ID_FIELD: self.id,
            "flavor": self.flavor,
            "model_uri": self.model_uri,
            "run_id": self.run_id or "",
            "signature": json.dumps(self.signature),
            "mapping": json.dumps(self.mapping),
            "verification": json.dumps(self.verification),
            "notes": json.dumps(self.notes),
            "options": json.dumps(_given(self.options)),
            "fingerprint": self.fingerprint,
            "created": self.created,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Record | None:
        """Reads the Redis hash; None for an empty one. Raises UnreadableRecord."""
        if not fields:
            return None
        found = {text(name): text(value) for name, value in fields.items()}
        if found.get("format") != str(FORMAT):
            raise UnreadableRecord(
                f"the deployment's record has format {found.get('format')!r}, this mlflow-redisai knows {FORMAT}; "
                "upgrade with pip install --upgrade mlflow-redisai"
            )
        return cls(
            id=found[ID_FIELD],
            flavor=found["flavor"],
            model_uri=found["model_uri"],
            run_id=found["run_id"] or None,
            signature=json.loads(found["signature"]),
            mapping=json.loads(found["mapping"]),
            verification=json.loads(found["verification"]),
            notes=tuple(json.loads(found["notes"])),
            options=DeploymentOptions.of(json.loads(found["options"])),
            fingerprint=found["fingerprint"],
            created=found["created"],
        )


def _given(options: DeploymentOptions) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if value is not None}
