"""
Load on a RESP server, from redis-benchmark if a command fits its command line, otherwise from our own generator.

redis-benchmark is written in C, needs less of the second core, and can pipeline. But it can't send zero bytes or long
arguments, and it doesn't check replies. So this module checks the first answer, and the models' rows have no zero byte
(`models.py`). The scenario `generator` compares the two generators.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict

from bench import load
from bench.rounds import Figures
from bench.wire import redis_exchange

_LONGEST_ARGUMENT = 100_000  # Linux allows 128 KiB
_TRIAL_REQUESTS = 1000

Argument = bytes | str | int


def drive(port: int, command: Sequence[Argument], connections: int, seconds: float, *, pipeline: int = 1) -> Figures:
    """Load the server with one command for about that many seconds."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    load.first_reply(port, redis_exchange(words))  # raises if the reply is an error
    if shutil.which("redis-benchmark") and not any(b"\0" in word or len(word) > _LONGEST_ARGUMENT for word in words):
        return redis_benchmark(port, words, connections, seconds, pipeline=pipeline)
    if pipeline > 1:
        raise FileNotFoundError("pipelined load needs redis-benchmark on the PATH (Debian: redis-tools)")
    return our_generator(port, words, connections, seconds)


def our_generator(port: int, words: Sequence[bytes], connections: int, seconds: float) -> Figures:
    """Load the server with the generator in `load.py`."""
    before = _processor_seconds(resource.RUSAGE_SELF)
    found = load.run(port, redis_exchange(words), connections, seconds)
    used = _processor_seconds(resource.RUSAGE_SELF) - before
    return {**asdict(found), "generator_cores": round(used / found.seconds, 3)}


def redis_benchmark(
    port: int, words: Sequence[bytes], connections: int, seconds: float, *, pipeline: int = 1
) -> Figures:
    """Run redis-benchmark briefly to learn the rate, which also warms up the server, then for about `seconds`."""
    trial = _redis_benchmark(port, words, connections, pipeline, _TRIAL_REQUESTS * max(1, pipeline // 4))
    trial = _redis_benchmark(port, words, connections, pipeline, int(trial["per_second"] * min(0.2, seconds / 4)))
    before = _processor_seconds(resource.RUSAGE_CHILDREN)
    found = _redis_benchmark(port, words, connections, pipeline, int(trial["per_second"] * seconds))
    used = _processor_seconds(resource.RUSAGE_CHILDREN) - before
    return {**found, "generator_cores": round(used / found["seconds"], 3)}


def _redis_benchmark(port: int, words: Sequence[bytes], connections: int, pipeline: int, requests: int) -> Figures:
    requests = max(requests, connections * pipeline)
    options = ["-p", port, "-c", connections, "-P", pipeline, "-n", requests, "--precision", 3, "--csv"]
    command = [b"redis-benchmark", *(str(option).encode() for option in options), *words]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode or b"rror" in done.stderr:
        raise ValueError(f"redis-benchmark: {(done.stderr or done.stdout)[-500:]!r}")
    # The last line has the command, which may contain any bytes, and seven numbers.
    per_second, _, _, median, _, p99, worst = (float(text) for text in re.findall(rb'"([\d.]+)"', done.stdout)[-7:])
    return {
        "connections": connections,
        "pipeline": pipeline,
        "seconds": round(requests / per_second, 3),
        "requests": requests,
        "per_second": per_second,
        "median_ms": median,
        "p99_ms": p99,
        "worst_ms": worst,
    }


def _processor_seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime
