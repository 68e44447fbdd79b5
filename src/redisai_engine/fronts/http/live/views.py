"""
What the live page shows, as plain values: the deployments that a user may read, and one of them in full.

Invariant: all that is shown of a deployment was read on the connection of the user who asks, or is shown because that
connection has just read the deployment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from redisai_engine.codec.record import is_own_key, record_key
from redisai_engine.commands.hashes import scan_tags
from redisai_engine.commands.steps import Limited
from redisai_engine.execution.figures import DURATIONS
from redisai_engine.fronts.http.access.connection import Steps, UserConnection
from redisai_engine.fronts.http.access.failures import RequestRefused
from redisai_engine.redis import store
from redisai_engine.watching.catalog import CatalogEntry, entries
from redisai_engine.watching.history import NAMES, Counts, quantile
from redisai_engine.watching.measuring import label_of
from redisai_engine.watching.monitor import Monitor
from redisai_engine.watching.totals import Totals

_MOST_SHOWN = 200  # deployments
_RATE_SECONDS = 10
_QUANTILE_SECONDS = 60
_MOST_BYTES = 64 * 2**10  # of an example

Row = dict[str, Any]


async def overview(connection: UserConnection, monitor: Monitor) -> dict[str, Any]:
    """Return a row for each deployment that the user may read, up to a number, and how many there are."""
    tags = await connection.ask(scan_tags(connection.client, store.MODEL))
    names = sorted(name for name in tags if not is_own_key(name))
    shown = names[:_MOST_SHOWN]
    held = await connection.ask(entries([(0, name) for name in shown]))
    totals = await monitor.everywhere()
    minute, now = await monitor.recent(_QUANTILE_SECONDS), await monitor.recent(_RATE_SECONDS)
    rows = []
    for name in shown:
        place = (0, name)
        entry = held.get(place)
        if entry is not None:
            rows.append({**described(name, entry, totals), **_lately(minute.get(place), now.get(place))})
    return {"deployments": rows, "count": len(names)}


async def check_readable(connection: UserConnection, name: bytes) -> CatalogEntry:
    """Return what Redis shows the user of a deployment. Raise RequestRefused if that is nothing."""
    entry = (await connection.ask(entries([(0, name)]))).get((0, name))
    if entry is None:
        raise RequestRefused(404, f"there is no deployment {name.decode('utf-8', 'replace'):.200} that you may read")
    return entry


async def deployment(connection: UserConnection, monitor: Monitor, name: bytes) -> Row:
    """Return a deployment's record and what it is doing."""
    entry = await check_readable(connection, name)
    totals = await monitor.everywhere()
    example = await connection.ask(_example(name))
    return {**described(name, entry, totals), **_recorded(entry.record), "example": example}


async def live(connection: UserConnection, monitor: Monitor, name: bytes) -> Row:
    """Return what changes while the page of a deployment is open."""
    entry = await check_readable(connection, name)
    hour = await monitor.hour_of((0, name))
    totals = await monitor.everywhere()
    return {
        **described(name, entry, totals),
        "now": int(time.time()),
        "fine": [_point(second, counts) for second, counts in hour["fine"]],
        "coarse": [_point(second, counts) for second, counts in hour["coarse"]],
        "marks": hour["marks"],
        "last_errors": [
            {"at": int(at), "kind": kind, "text": text.partition("\n")[0]} for at, kind, text in hour["last_errors"]
        ],
    }


def described(name: bytes, entry: CatalogEntry, totals: Totals) -> Row:
    """Return what a row of the overview says of a deployment."""
    record = entry.record
    label = label_of(name)
    found = {key: _sum(totals, f"redisai_{key}", label) for key in ("model_bytes", "in_flight", "models_loaded")}
    return {
        "name": name.decode("utf-8", "replace"),
        "flavor": record.get("flavor", ""),
        "model_uri": record.get("model_uri", ""),
        "version": record.get("version", ""),
        "revision": record.get("revision", ""),
        "backend": _label(totals, label, 3),
        "device": _label(totals, label, 4),
        "verification": _json(record, "verification", {}).get("status", ""),
        "errors": int(_sum(totals, "redisai_errors_total", label)),
        "requests": int(_sum(totals, "redisai_requests_total", label, "ok")),
        **{key: int(value) for key, value in found.items()},
    }


def _recorded(record: Mapping[str, str]) -> Row:
    signature = _json(record, "signature", {})
    return {
        "run_id": record.get("run_id", ""),
        "created": record.get("created", ""),
        "deployed_by": record.get("deployed_by", ""),
        "notes": [str(note) for note in _json(record, "notes", [])],
        "options": {str(name): str(value) for name, value in _json(record, "options", {}).items()},
        "verified": {str(name): str(value) for name, value in _json(record, "verification", {}).items()},
        "inputs": _columns(signature.get("inputs")),
        "outputs": _columns(signature.get("outputs")),
    }


def _json(record: Mapping[str, str], name: str, otherwise: Any) -> Any:
    """Return a field that is JSON of this type; whoever may write the record may have written anything."""
    try:
        value = json.loads(record.get(name, ""))
    except (ValueError, RecursionError):
        return otherwise
    return value if isinstance(value, type(otherwise)) else otherwise


def _columns(text: Any) -> list[dict[str, str]]:
    """Return name and type of each column or tensor of a signature."""
    try:
        columns = json.loads(text)
        return [
            {
                "name": str(one.get("name", "")),
                "type": _type(one),
                "required": "yes" if one.get("required", True) else "no",
            }
            for one in columns
        ]
    except (TypeError, ValueError, AttributeError, RecursionError):
        return []


def _type(column: Mapping[str, Any]) -> str:
    spec = column.get("tensor-spec")
    return f"{spec['dtype']} {spec['shape']}" if isinstance(spec, dict) else str(column.get("type", ""))


def _example(name: bytes) -> Steps[str]:
    (found,) = yield Limited([(b"HGET", record_key(name), b"example")], _MOST_BYTES)
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else ""


def _sum(totals: Totals, metric: str, label: str, end: str = "") -> float:
    found = 0.0
    for labels, value in totals.get(metric, {}).items():
        if labels[:2] == (label, "0") and (not end or labels[-1] == end) and "engine" not in labels[5:]:
            found += value[-1] if isinstance(value, list) else value
    return found


def _label(totals: Totals, label: str, place: int) -> str:
    return next((labels[place] for labels in totals.get("redisai_models_loaded", {}) if labels[0] == label), "")


def _lately(minute: Counts | None, now: Counts | None) -> Row:
    counts = dict(zip(NAMES, minute or [0.0] * len(NAMES), strict=False))
    return {
        "rate": round(now[0] / _RATE_SECONDS, 1) if now else 0.0,
        "p50": _ms(quantile(minute, 0.5)) if minute else None,
        "p99": _ms(quantile(minute, 0.99)) if minute else None,
        "batch_rows": round(counts["rows"] / counts["runs"], 1) if counts["runs"] else None,
    }


def _point(second: int, counts: Counts) -> list[float | None]:
    """Return one point of the charts: time, requests, errors, p50, p99, mean queue and run in ms, rows of a run."""
    told = dict(zip(NAMES, counts, strict=False))
    requests, runs = told["requests"], told["runs"]
    return [
        second,
        requests,
        told["errors"],
        _ms(quantile(counts, 0.5)),
        _ms(quantile(counts, 0.99)),
        _ms(told["queue_seconds"] / requests) if requests else None,
        _ms(told["run_seconds"] / runs) if runs else None,
        round(told["rows"] / runs, 2) if runs else None,
    ]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(min(seconds, DURATIONS[-1]) * 1000, 3)
