"""
What one process knows of itself, as metrics: plain values that other processes can be sent as JSON.

Invariant: what is read here is only read, and needs no lock: figures change in the event loop's thread, where this is
called.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeAlias

from redisai_engine.codec.record import is_own_key
from redisai_engine.execution.figures import FRONTS, Figures, Place
from redisai_engine.service.engine import Engine

#: By metric, then by the values of its labels: a number, or of a histogram the counts of its buckets and their sum.
Value: TypeAlias = "float | list[float]"
Samples: TypeAlias = dict[str, list[tuple[list[str], Value]]]

_LONGEST_NAME = 200  # characters of a deployment's name in a label


def label_of(key: bytes) -> str:
    """Return a key as a label. Bytes that are no text are shown as such, and what is too long is cut."""
    name = key.decode("utf-8", "backslashreplace").replace("\0", "\\0")
    if len(name) <= _LONGEST_NAME:
        return name
    import hashlib

    return f"{name[:_LONGEST_NAME]}…{hashlib.sha256(key).hexdigest()[:8]}"


def measured(engine: Engine) -> Samples:
    """Return everything that this process counts."""
    samples: Samples = defaultdict(list)
    for place, id_, figures in engine.ledger.versions():
        if not is_own_key(place[1]):  # a model under verification, which nobody else uses
            _add_version(samples, engine, place, id_, figures)
    for kind, count in engine.ledger.errors.items():
        samples["redisai_command_errors_total"].append(([kind], count))
    traffic = engine.traffic
    tracking = engine.models.tracking
    for name, value in (
        ("redisai_relayed_commands_total", traffic.relayed),
        ("redisai_upstream_round_trips_total", traffic.asked),
        ("redisai_upstream_connections", traffic.open),
        ("redisai_upstream_opened_total", traffic.opened),
        ("redisai_upstream_lost_total", traffic.lost),
        ("redisai_tracking", tracking == "on"),
        ("redisai_tracking_opened_total", engine.models.tracking_opened),
        ("redisai_processes", 1),
    ):
        samples[name].append(([], int(value)))
    return dict(samples)


def labels_of(place: Place, figures: Figures) -> list[str]:
    """Return the values of the labels that all metrics of a deployment have."""
    return [label_of(place[1]), str(place[0]), figures.version, figures.backend, figures.device]


def _add_version(samples: Samples, engine: Engine, place: Place, id_: bytes, figures: Figures) -> None:
    labels = labels_of(place, figures)
    samples["redisai_run_seconds"].append((labels, [*figures.run, figures.run_seconds]))
    samples["redisai_batch_rows"].append((labels, [*figures.rows, figures.rows_total]))
    for front, requests in zip(FRONTS, figures.fronts, strict=True):
        done, failed = sum(requests.latency), sum(requests.errors.values())
        if not done + failed:
            continue
        samples["redisai_requests_total"] += [([*labels, front, "ok"], done), ([*labels, front, "error"], failed)]
        samples["redisai_request_seconds"].append(([*labels, front], [*requests.latency, requests.latency_seconds]))
        samples["redisai_queue_seconds"].append(([*labels, front], [*requests.queue, requests.queue_seconds]))
        samples["redisai_failed_request_seconds_total"].append(([*labels, front], requests.failed_seconds))
        for kind, count in requests.errors.items():
            samples["redisai_errors_total"].append(([*labels, front, kind], count))
    _add_state(samples, engine, place, id_, labels)


def _add_state(samples: Samples, engine: Engine, place: Place, id_: bytes, labels: list[str]) -> None:
    """Add what is so at this moment, of a version that is in memory."""
    model = engine.models.peek(place, id_)
    if model is None:
        return
    waiting, running = engine.executor.in_flight(model.share)
    for name, value in (
        ("redisai_in_flight", waiting + running),
        ("redisai_waiting", waiting),
        ("redisai_models_loaded", 1),
        ("redisai_model_bytes", model.memory if model.loaded.taken is None else model.loaded.taken),
        ("redisai_host_deaths_total", model.loaded.deaths),
    ):
        samples[name].append((labels, value))


def as_json(value: Any) -> Samples:
    """Return what another process has sent, or nothing if it isn't what `measured` returns."""
    return value if isinstance(value, dict) else {}
