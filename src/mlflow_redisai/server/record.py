"""
The record as the plugin writes and reads it: everything about a deployment that RedisAI has no place for. Does no I/O.

Keys, format and mapping are defined by the codec, in `redisai_engine.codec.record`.

Invariant: every deployment has its own id.
"""

from __future__ import annotations

import getpass
import json
import uuid
from collections.abc import Callable
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, get_type_hints

from mlflow_redisai import errors
from mlflow_redisai.config import DeploymentOptions
from mlflow_redisai.server.commands import raw, text
from redisai_engine.codec.mapping import Mapping
from redisai_engine.codec.record import FORMAT, ID_FIELD, is_own_key, mapping_of, texts
from redisai_engine.protocol.patterns import OWN_KEYS


def check_name(name: object) -> str:
    """Return the name if a model can be deployed under it. Raise InvalidRequest."""
    if not isinstance(name, str) or not name:
        raise errors.InvalidRequest(f"a deployment's name must be a non-empty string, got {name!r}")
    if is_own_key(raw(name)):
        raise errors.InvalidRequest(
            f"the name {name!r} is not allowed: keys that start with {text(OWN_KEYS)} are reserved for the plugin"
        )
    if name == "|>":
        raise errors.InvalidRequest("the name '|>' is not allowed: it separates operations in RedisAI's commands")
    return name


@dataclass(frozen=True, kw_only=True)
class Record:
    """
    One deployment. `signature` is what MLflow's `ModelSignature.to_dict` returns: a dict of JSON texts.

    `version` is the model's in MLflow's registry. `revision` numbers the deployments of one name, as they follow each
    other. `example` is an input as JSON, or empty. Records written by earlier versions lack these and `deployed_by`.
    """

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
    version: str | None = None
    deployed_by: str | None = None
    revision: int | None = None
    example: str = ""

    @staticmethod
    def new_identity() -> dict[str, Any]:
        """Return the fields that are new for every deployment."""
        return {
            "id": uuid.uuid4().hex,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "deployed_by": _user(),
        }

    def after(self, revision: str | None) -> Record:
        """Return this record as the one that follows that revision; without one it is the first."""
        return replace(self, revision=(_revision(revision) or 0) + 1)

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
            "version": self.version or "",
            "deployed_by": self.deployed_by or "",
            "revision": str(self.revision or ""),
            "example": self.example,
        }

    @classmethod
    def from_fields(cls, fields: AnyMapping[bytes, bytes]) -> Record | None:
        """Read the Redis hash, which anybody may have written. Return None if it is empty. Raise UnreadableRecord."""
        if not fields:
            return None
        with errors.of_codec():
            found = texts(fields)
            mapping = mapping_of(found)
        return cls(
            id=_field(found, ID_FIELD),
            flavor=_field(found, "flavor"),
            model_uri=_field(found, "model_uri"),
            run_id=_field(found, "run_id") or None,
            signature=_json(found, "signature", _is_signature),
            mapping=mapping,
            verification=_json(found, "verification", _is_verification),
            notes=tuple(_json(found, "notes", _is_notes)),
            options=_options(found),
            fingerprint=_field(found, "fingerprint"),
            created=_field(found, "created"),
            version=found.get("version") or None,
            deployed_by=found.get("deployed_by") or None,
            revision=_revision(found.get("revision")),
            example=found.get("example", ""),
        )


def _user() -> str | None:
    """Return who deploys: the name of the account, if it has one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run under a number only
        return None


def _revision(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else None


def _field(found: AnyMapping[str, str], name: str) -> str:
    if name not in found:
        raise _damaged(name, "is missing")
    return found[name]


def _json(found: AnyMapping[str, str], name: str, is_right: Callable[[Any], bool]) -> Any:
    raw_value = _field(found, name)
    try:
        value = json.loads(raw_value)
    except (ValueError, RecursionError):
        raise _damaged(name, f"is no JSON: {raw_value!r:.80}") from None
    if not is_right(value):
        raise _damaged(name, f"is {raw_value!r:.80}")
    return value


def _is_signature(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and all(part is None or isinstance(part, str) for part in value.values())
    )


def _is_verification(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_notes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(note, str) for note in value)


def _is_options(value: Any) -> bool:
    """Return whether these are options of the right types. Those of a newer version are ignored."""
    if not isinstance(value, dict):
        return False
    kinds = get_type_hints(DeploymentOptions)
    return all(_is_of(part, kinds[name]) for name, part in value.items() if name in kinds)


def _is_of(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _options(found: AnyMapping[str, str]) -> DeploymentOptions:
    try:
        return DeploymentOptions.of(_json(found, "options", _is_options))
    except errors.InvalidOption as error:  # they contradict each other
        raise _damaged("options", f"can't be: {error}") from None


def _damaged(name: str, problem: str) -> errors.UnreadableRecord:
    return errors.UnreadableRecord(f"the deployment's record is damaged: its {name} {problem}; deploy the model anew")


def _given(options: DeploymentOptions) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if value is not None}
