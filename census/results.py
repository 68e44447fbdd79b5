"""
Verdicts as files: a log that grows while a census runs, and the results in the repository, one file a census.

Results are nested by family, subject, verdict and reason, so that what rows share stands there once.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from census.rows import Row
from census.verdicts import Verdict

FOLDER = Path(__file__).parent / "results"
_PACKAGES = (
    *("mlflow", "numpy", "pandas", "scikit-learn", "skl2onnx", "onnx", "onnxruntime", "xgboost", "lightgbm"),
    *("catboost", "torch", "keras"),
)


@dataclass(frozen=True)
class Found:
    """A row and the verdict on it."""

    row: Row
    verdict: Verdict


def append(path: Path, found: Found) -> None:
    """Add a verdict to a log: the verdict, the row's name and the reason, with tabs between them."""
    reason = " ".join(found.verdict.reason.split())
    with path.open("a") as log:
        log.write(f"{found.verdict.kind}\t{found.row.name}\t{reason}\n")


def read_log(path: Path) -> dict[str, Found]:
    """Return the verdicts of a log by the rows' names. The last one on a row counts."""
    verdicts = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        kind, name, reason = line.split("\t", 2)
        verdicts[name] = Found(Row(*name.split("/")), Verdict(kind, reason))
    return verdicts


# -- results --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Results:
    """What a census found, and under which circumstances."""

    about: dict[str, Any]
    found: tuple[Found, ...]

    def write(self, folder: Path = FOLDER) -> Path:
        """Write `<date>.json`. Return its path."""
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.about['date']}.json"
        content = {"about": self.about, "rows": _nested(self.found)}
        path.write_text(json.dumps(content, indent=0, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Results:
        content = json.loads(path.read_text())
        return cls(content["about"], tuple(_flat(content["rows"])))


def newest(folder: Path = FOLDER) -> Path | None:
    """Return the file of the latest census, or None."""
    return max(folder.glob("*.json"), default=None)


def circumstances(command: str, seed: int, known: int) -> dict[str, Any]:
    """Return what a reader must know of a census. `known` is the number of rows that the census has."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    )
    return {
        "command": command,
        "commit": commit.stdout.strip() or "unknown",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "known": known,
        "seed": seed,
        "versions": {name: version.partition("+")[0] for name, version in _versions()},
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _nested(found: Iterable[Found]) -> dict[str, Any]:
    """Return the rest of the rows' names by family, subject, kind of verdict and reason."""
    nested: dict[str, Any] = {}
    for each in sorted(found, key=lambda one: one.row.name):
        row, verdict = each.row, each.verdict
        rest = "/".join((row.change, row.within, row.data, row.method))
        kinds = nested.setdefault(row.family, {}).setdefault(row.subject, {})
        kinds.setdefault(verdict.kind, {}).setdefault(verdict.reason[:400], []).append(rest)
    return nested


def _flat(nested: dict[str, Any]) -> Iterator[Found]:
    for family, subjects in nested.items():
        for subject, kinds in subjects.items():
            for kind, reasons in kinds.items():
                for reason, rows in reasons.items():
                    for rest in rows:
                        yield Found(Row(family, subject, *rest.split("/")), Verdict(kind, reason))
