"""The limit: ONNX Runtime called in a loop in one process, without any server."""

from __future__ import annotations

import time

import numpy as np

from bench.models import Model
from bench.rounds import Figures


def loop(model: Model, seconds: float, *, rows: int = 1) -> Figures:
    """Run the same rows again and again in one thread, as fast as a loop can."""
    session = model.session()
    name, feed = session.get_outputs()[0].name, {session.get_inputs()[0].name: model.rows(rows)}
    for _ in range(20):
        session.run([name], feed)
    latencies = []
    started = now = time.perf_counter()
    while now - started < seconds:
        before = now
        session.run([name], feed)
        now = time.perf_counter()
        latencies.append(now - before)
    ordered = np.sort(latencies) * 1000
    return {
        "per_second": round(len(latencies) / (now - started), 1),
        "median_ms": round(float(ordered[len(ordered) // 2]), 4),
        "p99_ms": round(float(ordered[len(ordered) * 99 // 100]), 4),
    }
