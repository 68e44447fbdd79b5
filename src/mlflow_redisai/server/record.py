"""
The record as the plugin writes and reads it: everything about a deployment that RedisAI has no place for. Does no I/O.

Keys, format and mapping are defined by the codec, in `redisai_engine.codec.record`.

Invariant: every deployment has its own id.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mlflow_redisai import errors
from mlflow_redisai.config import DeploymentOptions
from mlflow_redisai.server.commands import raw, text
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.record import FORMAT, ID_FIELD, PREFIX, is_own_key, mapping_of, texts


def check_name(name: object) -> str:
    """Return the name if a model can be deployed under it. Raise InvalidRequest."""
    if not isinstance(name, str) or not name:
        raise errors.InvalidRequest(f"a deployment's name must be a non-empty string, got {name!r}")
    if is_own_key(raw(name)):
        raise errors.InvalidRequest(
            f"the name {name!r} is not allowed: keys that start with {text(PREFIX)} are reserved for the plugin"
        )
    if name == "|>":
        raise errors.InvalidRequest("the name '|>' is not allowed: it separates operations in RedisAI's commands")
    return name


@dataclass(frozen=True, kw_only=True)
class Record:
    """One deployment. `signature` is what MLflow's `ModelSignature.to_dict` returns: a dict of JSON texts."""

    id: str
    flavor: str
    model_uri: str
    run_id: str | None
    signature: dict[str, Any] | None
    mapping: Mapping
    verification: Any
    notes: tuple[str, ...]
    options: DeploymentOptions
    fingerprint: str
    created: str

    @staticmethod
    def new_identity() -> dict[str, Any]:
        """Return the fields that are new for every deployment."""
        return {"id": uuid.uuid4().hex, "created": datetime.now(timezone.utc).isoformat(timespec="seconds")}

    def fields(self) -> dict[str, str]:
        """Return the fields of the Redis hash."""
        return {
            "format": str(FORMAT),
            ID_FIELD: self.id,
            "flavor": self.flavor,
            "model_uri": self.model_uri,
            "run_id": self.run_id or "",
            "signature": json.dumps(self.signature),
            "mapping": json.dumps(self.mapping.to_json()),
            "verification": json.dumps(self.verification),
            "notes": json.dumps(self.notes),
            "options": json.dumps(_given(self.options)),
            "fingerprint": self.fingerprint,
            "created": self.created,
        }

    @classmethod
    def from_fields(cls, fields: AnyMapping[bytes, bytes]) -> Record | None:
        """Read the Redis hash. Return None if it is empty. Raise UnreadableRecord."""
        if not fields:
            return None
        with errors.of_codec():
            found = texts(fields)
            mapping = mapping_of(found)
        return cls(
            id=found[ID_FIELD],
            flavor=found["flavor"],
            model_uri=found["model_uri"],
            run_id=found["run_id"] or None,
            signature=json.loads(found["signature"]),
            mapping=mapping,
            verification=json.loads(found["verification"]),
            notes=tuple(json.loads(found["notes"])),
            options=DeploymentOptions.of(json.loads(found["options"])),
            fingerprint=found["fingerprint"],
            created=found["created"],
        )


def _given(options: DeploymentOptions) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if value is not None}
