"""
What probation costs the first store of a small ONNX model.

    python bench/micro/probation.py

Prints milliseconds for each case, best and median. docs/decisions/0011-probation.md refers to it.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.models import small
from redisai_engine.backends.base import BackendSettings
from redisai_engine.backends.registry import backend
from redisai_engine.execution.hosts.models import HostLimits
from redisai_engine.execution.hosts.parent import Parent
from redisai_engine.execution.hosts.probation import Candidate, Probation

ROUNDS = 50
SETTINGS = BackendSettings()


def main() -> None:
    blob = small().onnx
    parent = Parent("ONNX")
    probation = Probation(parent, HostLimits(load_seconds=60.0, memory=2**32, at_once=1))
    print(f"Python {platform.python_version()}, ONNX Runtime {backend('ONNX').version}, {platform.platform()}")
    try:
        report("first trial", [milliseconds(lambda: probation.passed(Candidate("first", "CPU", blob), SETTINGS))])
        trials = [Candidate(str(number), "CPU", blob) for number in range(ROUNDS)]
        report("trial", [milliseconds(lambda trial=trial: probation.passed(trial, SETTINGS)) for trial in trials])
    finally:
        parent.close()
    framework = backend("ONNX")
    framework.warm_up()
    loads = [
        milliseconds(lambda: framework.load(blob, "CPU", inputs=(), outputs=(), settings=SETTINGS))
        for _ in range(ROUNDS)
    ]
    report("load in this process", loads)


def milliseconds(function: Callable[[], object]) -> float:
    begin = perf_counter()
    function()
    return (perf_counter() - begin) * 1000


def report(name: str, times: list[float]) -> None:
    print(f"{name:<22}{min(times):8.1f}{median(times):8.1f}")


if __name__ == "__main__":
    main()
