"""
Totals as Prometheus reads them, by prometheus-client.

Invariant: this is slow, so it runs in a thread, and touches nothing but the totals that it is given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, UntypedMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from redisai_engine.execution.figures import DURATIONS, SIZES
from redisai_engine.watching.measuring import Value
from redisai_engine.watching.table import GAUGE, HISTOGRAM, METRICS, TRITON, Metric
from redisai_engine.watching.totals import Totals

#: In the header Accept of who wants this format.
OPEN_METRICS = "application/openmetrics-text"

#: What Triton calls a failure, by our kind of error.
_REASONS = {"queue_full": "REJECTED", "closing": "REJECTED", "stuck": "REJECTED", "timeout": "CANCELED"}


def exposed(totals: Totals, accept: str = "", *, triton: bool = False) -> tuple[str, bytes]:
    """Return the content type that suits the header Accept, and the text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Totals(totals, triton=triton))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Totals(Collector):
    def __init__(self, totals: Totals, *, triton: bool) -> None:
        self._totals = totals
        self._triton = triton

    def collect(self) -> Iterator[Any]:
        for name, metric in METRICS.items():
            yield _family(metric, self._totals.get(name, {}))
        if self._triton:
            triton = _as_triton(self._totals)
            for name, metric in TRITON.items():
                yield _family(metric, triton.get(name, {}))


def _family(metric: Metric, rows: dict[tuple[str, ...], Value]) -> Any:
    if metric.kind == HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in rows.items():
            assert isinstance(value, list)
            histogram.add_metric(labels, _buckets(value), value[-1])
        return histogram
    family = _kind(metric)(metric.name, metric.help, labels=metric.labels)
    for labels, value in rows.items():
        family.add_metric(labels, value)
    return family


def _kind(metric: Metric) -> Any:
    if metric.kind == GAUGE:
        return GaugeMetricFamily
    # Triton's counters lack the end of the name that prometheus-client would add.
    return CounterMetricFamily if metric.name.endswith("_total") else UntypedMetricFamily


def _buckets(value: list[float]) -> list[tuple[str, float]]:
    """Return upper bounds and counts, each with those of all smaller ones, as Prometheus wants them."""
    counts = value[:-1]
    bounds = DURATIONS if len(counts) == len(DURATIONS) + 1 else SIZES
    return list(zip([*(f"{bound:g}" for bound in bounds), "+Inf"], accumulate(counts), strict=True))


def _as_triton(totals: Totals) -> Totals:
    """Return the metrics that Triton has, by its labels."""
    found: dict[str, dict[tuple[str, ...], float]] = defaultdict(lambda: defaultdict(float))

    def add(name: str, labels: tuple[str, ...], value: float) -> None:
        key: tuple[str, ...] = (labels[0], labels[2] or "1", *labels[5:])
        found[name][key] += value

    for labels, value in totals.get("redisai_requests_total", {}).items():
        if labels[-1] == "ok":
            add("nv_inference_request_success", labels[:5], _number(value))
    for labels, value in totals.get("redisai_errors_total", {}).items():
        reason = _REASONS.get(labels[-1], "BACKEND")
        add("nv_inference_request_failure", (*labels[:5], reason), _number(value))
    for labels, value in totals.get("redisai_waiting", {}).items():
        add("nv_inference_pending_request_count", labels, _number(value))
    for ours, theirs in (
        ("redisai_request_seconds", "nv_inference_request_duration_us"),
        ("redisai_queue_seconds", "nv_inference_queue_duration_us"),
        ("redisai_run_seconds", "nv_inference_compute_infer_duration_us"),
    ):
        for labels, value in totals.get(ours, {}).items():
            add(theirs, labels[:5], _number(value) * 1e6)
    for labels, value in totals.get("redisai_batch_rows", {}).items():
        assert isinstance(value, list)
        add("nv_inference_count", labels, value[-1])
        add("nv_inference_exec_count", labels, sum(value[:-1]))
    return {name: dict(rows) for name, rows in found.items()}


def _number(value: Value) -> float:
    """Return a number, or the sum of a histogram."""
    return value[-1] if isinstance(value, list) else value
