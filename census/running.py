"""
Runs rows in child processes, each with a time limit, several at a time if asked.

Invariant: every row that was begun gets a verdict, even if its process died or had to be ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from census.results import Found
from census.rows import Row
from census.verdicts import HUNG, RAW, UNTRAINED, Verdict

ROOT = Path(__file__).parent.parent

#: Seconds that a row may compute.
LIMIT = 60.0
# A row that waits without computing is ended after so many times as long.
_WAITING = 10
# A process is replaced after so many rows, because frameworks hold on to memory.
_ROWS_PER_PROCESS = 400


class Child:
    """One worker process. `judge` starts another one if the last one is gone."""

    def __init__(self, seed: int, limit: float) -> None:
        self._seed, self._limit = seed, limit
        self._process: subprocess.Popen[str] | None = None
        self._count = 0

    def judge(self, row: Row) -> Found:
        if self._count >= _ROWS_PER_PROCESS:
            self.close()
        process = self._process or self._start()
        self._count += 1
        timer = threading.Timer(_WAITING * self._limit, process.kill)
        timer.start()
        try:
            verdict = _ask(process, row)
        finally:
            timer.cancel()
        verdict = verdict or _died(process, self._limit)
        if process.poll() is not None:
            self.close()
        return Found(row, verdict)

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "census.worker", str(self._seed), str(self._limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": _python_path()},
        )
        self._count = 0
        return self._process

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",
}


def _python_path() -> str:
    """Return the path with this checkout first: the source, the tests' own support, and the census."""
    return os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")])


def _ask(process: subprocess.Popen[str], row: Row) -> Verdict | None:
    """Return the child's verdict, or None if it died."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{row.name}\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    for line in process.stdout:
        reply = json.loads(line)
        if "verdict" in reply:
            return Verdict(reply["verdict"], reply["reason"])
        process.phase = reply["phase"]  # type: ignore[attr-defined]
    return None


def _died(process: subprocess.Popen[str], limit: float) -> Verdict:
    phase = getattr(process, "phase", "starting")
    ended = process.wait() in (-signal.SIGPROF, -signal.SIGKILL)
    how = f"didn't end within {limit:g} s" if ended else f"the process died with code {process.returncode}"
    if phase in ("training", "starting"):
        return Verdict(UNTRAINED, f"{phase}: {how}")
    return Verdict(HUNG if ended else RAW, f"{phase}: {how}")


def run(
    rows: Iterable[Row], seed: int, *, jobs: int = 1, limit: float = LIMIT, until: Callable[[], bool] = lambda: False
) -> Iterator[Found]:
    """Yield verdicts as they come. No further row is begun once `until` returns True."""
    waiting, lock = iter(rows), threading.Lock()
    found: list[Found] = []
    ready = threading.Condition()

    def work() -> None:
        child = Child(seed, limit)
        try:
            while not until():
                with lock:
                    row = next(waiting, None)
                if row is None:
                    return
                judged = child.judge(row)
                with ready:
                    found.append(judged)
                    ready.notify()
        finally:
            child.close()
            with ready:
                ready.notify()

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(work) for _ in range(jobs)]
        while True:
            with ready:
                ready.wait_for(lambda: bool(found) or all(each.done() for each in futures), timeout=1)
                taken, found[:] = list(found), []
            yield from taken
            if not taken and all(each.done() for each in futures):
                break
        for each in futures:
            each.result()
