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
        wanted = dict.fromkeys(places[start : start + _SLICE], True)
        while wanted:
            replies = yield from _at_once(wanted)
            if replies is not None:
                for place, (model, *told) in replies.items():
                    if not isinstance(model, ReplyError):  # a key of another kind
                        found[place] = _entry(model, told[0] if told else None)
                break
    return found


def _at_once(wanted: dict[Place, bool]) -> Generator[Any, Any, dict[Place, list[Any]] | None]:
    """
    Ask about these at the same moment, about their records, too, where that is True. Return replies by place.

    Where Redis refuses one, it refuses all: then change `wanted` to what it allows, and return None.
    """
    commands: list[tuple[bytes, ...]] = []
    asked: list[Place | None] = []
    database = 0
    for place, with_record in wanted.items():
        number, key = place
        if number != database:
            commands.append((b"SELECT", b"%d" % number))
            asked.append(None)
            database = number
        commands.append((b"HMGET", key, store.ID, store.META, store.SCRIPT_ID))
        asked.append(place)
        if with_record:
            commands.append((b"HMGET", record_key(key), *_FIELDS))
            asked.append(place)
    if database:
        commands.append((b"SELECT", b"0"))
        asked.append(None)
    begun, *queued, replies = yield [(b"MULTI",), *commands, (b"EXEC",)]
    refuse_error(begun)
    if isinstance(replies, ReplyError):
        refused = [n for n, reply in enumerate(queued) if isinstance(reply, ReplyError)]
        if not any(asked[n] for n in refused):
            refuse_error(replies)
        _leave_out(wanted, asked, refused)
        return None
    found: dict[Place, list[Any]] = {place: [] for place in wanted}
    for each, reply in zip(asked, replies, strict=True):
        if each is not None:
            found[each].append(reply)
    return found


def _leave_out(wanted: dict[Place, bool], asked: Sequence[Place | None], refused: Sequence[int]) -> None:
    """Leave out deployments that Redis refuses, and of others the records that it refuses."""
    for number in refused:
        place = asked[number]
        if place is not None and place in wanted:
            if asked.index(place) == number:
                del wanted[place]
            else:
                wanted[place] = False


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
