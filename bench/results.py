"""
Where results go: one JSON file per run, with every round's figures and what is needed to judge and repeat them.

A number is published only with its question, machine, versions, date, commit and command.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.rivals import RIVALS
from bench.rounds import Series
from redisai_engine.fronts.resp import session
from redisai_engine.redis.embedded import find_server

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("mlflow", "numpy", "onnxruntime", "hiredis", "redis", "uvloop", "uvicorn", "scikit-learn", "skl2onnx")


@dataclass(frozen=True)
class Results:
    """One run: what is published with it, and the series of each scenario."""

    about: dict[str, Any]
    scenarios: dict[str, Series]
    skipped: dict[str, str]

    def values(self, scenario: str, series: str, figure: str) -> list[float]:
        """Return one figure of a series, one value per round. Empty if it was not measured."""
        return [figures[figure] for figures in self.scenarios.get(scenario, {}).get(series, [])]

    def ratios(self, scenario: str, series: str, base: str, figure: str) -> list[float]:
        """Return the ratio of the same figure of two series, within each round."""
        pairs = zip(self.values(scenario, series, figure), self.values(scenario, base, figure), strict=False)
        return [value / other for value, other in pairs]

    def take(self, scenario: str, series: Series) -> None:
        """Keep what a scenario has measured. What an earlier run skipped, and this one measured, isn't missing."""
        self.scenarios[scenario] = series
        for name in (scenario, *series):
            self.skipped.pop(name, None)

    def tell_again(self, scenario: str, about: dict[str, Any]) -> None:
        """Record that a whole scenario was measured later than the others. `about` describes that run."""
        self.about.setdefault("again", {})[scenario] = {name: about[name] for name in ("date", "commit")}

    def write(self, folder: Path) -> Path:
        """Write <date>.json into the folder. A later run on the same day replaces it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.about['date']}.json"
        content = {**self.about, "skipped": self.skipped, "scenarios": self.scenarios}
        path.write_text(json.dumps(content, indent=1) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what `write` wrote."""
        content = json.loads(path.read_text())
        return cls(scenarios=content.pop("scenarios"), skipped=content.pop("skipped"), about=content)


def newest(folder: Path = FOLDER) -> Path | None:
    """Return the results of the latest day that has any."""
    return max(folder.glob("*.json"), default=None)


def circumstances(command: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Return what every result is published with. The commit is the current one, so call this at the start."""
    changed = bool(_git("status", "--porcelain", "--untracked-files=no"))
    return {
        "command": command,
        "seconds": seconds,
        "rounds": rounds,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "commit": _git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else ""),
        "machine": f"{os.cpu_count()} cores, {_processor()}, {platform.system()} {platform.machine()}",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, the servers, the generators, the packages, and the rivals that are installed."""
    found = {"python": platform.python_version()}
    for program in (find_server(), "redis-benchmark", "wrk"):
        if shutil.which(program):
            found[Path(program).name] = _version_told(program)
    found["engine"] = _engine()
    found |= {name: importlib.metadata.version(name) for name in PACKAGES}
    for rival in RIVALS:
        found[rival.name] = rival.packages[0].rpartition("==")[2]
    return found


def _engine() -> str:
    """Return whether the measured engine is compiled, as in the wheel."""
    if session.__file__.endswith(".so"):
        return f"compiled with mypyc {importlib.metadata.version('mypy')}"
    return "not compiled"


def median_and_spread(values: list[float], show: Callable[[float], str]) -> str:
    """Return the median, and the smallest and the largest value."""
    if not values:
        return "not measured"
    middle = show(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({show(min(values))} to {show(max(values))})"


def _version_told(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    number = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return number[0] if number else "unknown"


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
