"""
What Redis says of the deployments that are counted: whether they still exist, and what their records tell.

Theory of operation. All is read on a connection of the engine's own, in slices, each in one MULTI, so that a model and
its record are of the same moment. Records belong to models by their fingerprints, as for the plugin.

Invariant: a deployment is forgotten only if Redis has answered that its key holds no model and no script.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redisai_engine.codec.record import fingerprint, record_key
from redisai_engine.commands.steps import refuse_error
from redisai_engine.errors import BadMetadata
from redisai_engine.execution.figures import Ledger, Place
from redisai_engine.protocol.frames import ReplyError
from redisai_engine.redis import store

_SLICE = 100  # deployments that are read at once
_LONGEST = 40  # characters of a version number

#: The fields of a record that are small, and known to everybody who may see the deployment.
TOLD = (
    "fingerprint",
    "version",
    "flavor",
    "model_uri",
    "run_id",
    "created",
    "deployed_by",
    "revision",
    "verification",
    "notes",
    "options",
    "signature",
)
_FIELDS = tuple(name.encode() for name in TOLD)


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """What a key held: the id of its model or script, and its record's fields if it has one of its own."""

    id: bytes
    record: Mapping[str, str]

    @property
    def version(self) -> str:
        return self.record.get("version", "")[:_LONGEST]


def entries(places: Sequence[Place]) -> Generator[Any, Any, dict[Place, CatalogEntry | None]]:
    """Read what these keys hold now; None for no model and no script. Those that Redis doesn't show are left out."""
    found: dict[Place, CatalogEntry | None] = {}
    for start in range(0, len(places), _SLICE):
        wanted = places[start : start + _SLICE]
        answers = yield from _in_one(wanted)
        for place, model, told in zip(wanted, answers[::2], answers[1::2], strict=True):
            if not isinstance(model, ReplyError):
                found[place] = _entry(model, told)
    return found


def _in_one(places: Sequence[Place]) -> Generator[Any, Any, list[Any]]:
    """Ask for all of these at the same moment. Return two replies for each."""
    commands: list[tuple[bytes, ...]] = []
    asked: list[bool] = []
    database = 0
    for number, key in places:
        if number != database:
            commands.append((b"SELECT", b"%d" % number))
            asked.append(False)
            database = number
        commands += [
            (b"HMGET", key, store.ID, store.META, store.SCRIPT_ID),
            (b"HMGET", record_key(key), *_FIELDS),
        ]
        asked += [True, True]
    if database:
        commands.append((b"SELECT", b"0"))
        asked.append(False)
    *queued, replies = yield [(b"MULTI",), *commands, (b"EXEC",)]
    refuse_error(*queued, replies)
    return [reply for reply, is_asked in zip(replies, asked, strict=True) if is_asked]


def _entry(model: Any, told: Any) -> CatalogEntry | None:
    id_, meta, script_id = model
    if id_ is None:
        return None if script_id is None else CatalogEntry(script_id, {})
    if not isinstance(told, list):
        return CatalogEntry(id_, {})
    record = {
        name: value.decode("utf-8", "replace")
        for name, value in zip(TOLD, told, strict=True)
        if isinstance(value, bytes)
    }
    return CatalogEntry(id_, record if record.get("fingerprint") == _fingerprint(meta, id_) else {})


def _fingerprint(meta: Any, id_: bytes) -> str:
    try:
        info = store.parse_meta(meta, id_)
    except BadMetadata:
        return ""
    return fingerprint(
        backend=info.backend,
        device=info.device,
        tag=info.tag,
        batchsize=info.batch_size,
        minbatchsize=info.min_batch_size,
        minbatchtimeout=info.min_batch_timeout_ms,
        inputs=info.inputs,
        outputs=info.outputs,
    )


def note(ledger: Ledger, found: Mapping[Place, CatalogEntry | None]) -> None:
    """Enter what was read in the ledger: versions' numbers, and which deployments are gone."""
    for place, entry in found.items():
        if entry is None:
            ledger.forget(place)
    for place, id_, figures in ledger.versions():
        entry = found.get(place)
        if entry is not None and entry.id == id_:
            figures.version = entry.version
