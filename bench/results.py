"""
Where results go: the raw figures as JSON, a table as Markdown, both with what is needed to judge and repeat them.

A number is published only with its question, machine, versions, date, commit and command.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("mlflow", "numpy", "onnxruntime", "hiredis", "uvloop", "uvicorn", "scikit-learn", "skl2onnx")


def circumstances(question: str, command: str, redis_version: str) -> dict[str, Any]:
    """What every result is published with."""
    changed = bool(_git("status", "--porcelain", "--untracked-files=no"))
    return {
        "question": question,
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "commit": _git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else ""),
        "machine": f"{os.cpu_count()} cores, {_processor()}, {platform.system()} {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            "redis-server": redis_version,
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
    }


def write(name: str, about: dict[str, Any], figures: Any, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Writes results/<name>.json and results/<name>.md, and gives the latter's text."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps({**about, "figures": figures}, indent=2) + "\n")
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    lines = [
        f"# {about['question']}",
        "",
        f"`{about['command']}`, {about['date']}, commit {about['commit']}; {about['machine']}; {versions}.",
        f"Every round's figures: `{name}.json`.",
        "",
        _row(header),
        _row(["---", *["---:"] * (len(header) - 1)]),
        *map(_row, rows),
        "",
    ]
    text = "\n".join(lines)
    (FOLDER / f"{name}.md").write_text(text)
    return text


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


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
