"""
Big tensors: an image through a model that returns it, from redis-py, compared with SET and GET of the same bytes.

Both send 602,112 bytes and receive as many. The DAG takes one round trip, SET and GET take two.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import redis

from bench import models, servers
from bench.rounds import Figures, Plan, Series
from bench.storing import blob_of, deploy


def run(plan: Plan) -> Series:
    identity = models.identity()
    command, blob = identity.dag(), identity.rows().tobytes()
    with servers.plain_redis(plan.folder) as plain, servers.engine(plan.folder, redis=plan.folder) as engine:
        deploy(engine.port, identity)
        with redis.Redis(port=engine.port) as ours, redis.Redis(port=plain.port) as theirs:

            def set_and_get() -> bytes:
                theirs.set("bench:blob", blob)
                return bytes(theirs.get("bench:blob") or b"")

            return plan.in_turns(
                {
                    "engine, Identity in a DAG": lambda: _repeat(
                        lambda: blob_of(ours.execute_command(*command)), blob, plan.seconds
                    ),
                    "Redis, SET and GET": lambda: _repeat(set_and_get, blob, plan.seconds),
                }
            )


def _repeat(there_and_back: Callable[[], bytes], blob: bytes, seconds: float) -> Figures:
    latencies = []
    started = now = time.perf_counter()
    while now - started < seconds:
        before = now
        answer = there_and_back()
        now = time.perf_counter()
        latencies.append(now - before)
    if answer != blob:
        raise ValueError("the bytes that came back differ")
    median = float(np.median(latencies))
    return {
        "gb_per_second": round(2 * len(blob) * len(latencies) / (now - started) / 1e9, 3),
        "median_ms": round(median * 1000, 4),
        "p99_ms": round(float(np.percentile(latencies, 99)) * 1000, 4),
    }
