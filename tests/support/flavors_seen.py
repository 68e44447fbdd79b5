"""
Records the largest difference seen for each flavor, and writes docs/flavors.json on request.

The variable RECORD_FLAVORS requests it. scripts/flavors makes the page from the file.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mlflow_redisai.models.registry import FLAVORS

FILE = Path(__file__).parents[2] / "docs" / "flavors.json"

_largest: dict[str, float] = {}


def seen(flavor: str, difference: float | None) -> None:
    """Record a difference. None stands for an answer without numbers, which was equal."""
    _largest[flavor] = max(_largest.get(flavor, 0.0), difference or 0.0)


def write_if_asked() -> None:
    """Replace the flavors that this session has seen, and keep the others."""
    if "RECORD_FLAVORS" not in os.environ or not _largest:
        return
    known: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    for flavor, difference in _largest.items():
        known[flavor] = {"difference": float(f"{difference:.1e}"), "versions": _versions(flavor)}
    ordered = {flavor: known[flavor] for flavor in FLAVORS if flavor in known}
    FILE.write_text(json.dumps(ordered, indent=2) + "\n")


def _versions(flavor: str) -> dict[str, str]:
    found = {}
    for package in ("mlflow", *FLAVORS[flavor].packages, "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
