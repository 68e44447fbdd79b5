"""
What the archive of a Python model asks for: an environment and a number of workers.

The archive is a ZIP file with the MLflow model's folder under `model/`, and `redisai.json` beside it. Only that file,
and those that decide about the environment, are read here; the worker reads the rest.

Invariant: whatever the bytes are, the outcome is a `Wanted` or ModelLoadError, in a bounded amount of memory.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redisai_engine.errors import ModelLoadError

_ABOUT = "redisai.json"
_MODEL = "model/MLmodel"
_FILES = {"uv.lock": "model/uv.lock", "pyproject.toml": "model/pyproject.toml"}
_MOST_ABOUT = 1 << 20  # bytes
_MOST_OF_A_FILE = 16 << 20  # bytes
_MOST_FILES = 100_000
_MOST_REPLICAS = 64
_ENTRY = b"PK\x01\x02"  # with which each entry of the directory begins
_PIECE = 16 << 20  # bytes that are searched while no other thread of the interpreter can run


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a model runs in. `files` decide about an environment, by their names."""

    environment: Mapping[str, Any] = field(default_factory=lambda: {"kind": "local"})
    replicas: int = 1
    files: Mapping[str, bytes] = field(default_factory=dict)


def wanted_by(blob: bytes) -> Wanted:
    """Read what an archive asks for. Raise ModelLoadError."""
    _check_count(blob)
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            names = set(archive.namelist())
            if _MODEL not in names:
                raise ModelLoadError(f"ERR the archive has no {_MODEL}, so it is not that of an MLflow model")
            if _ABOUT not in names:
                return Wanted()
            wanted = _read_about(_content(archive, _ABOUT, _MOST_ABOUT))
            if wanted.environment["kind"] != "uv":
                return wanted
            files = {name: _content(archive, path, _MOST_OF_A_FILE) for name, path in _FILES.items() if path in names}
            return Wanted(wanted.environment, wanted.replicas, files)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ModelLoadError(f"ERR the blob is not a whole ZIP archive of an MLflow model: {error}") from error


def _check_count(blob: bytes) -> None:
    """Raise ModelLoadError for an archive whose directory would take much time and memory to read."""
    count = sum(blob.count(_ENTRY, start, start + _PIECE + 3) for start in range(0, len(blob), _PIECE))
    if count > _MOST_FILES:
        raise ModelLoadError(f"ERR the archive has about {count} files; at most {_MOST_FILES} are allowed")


def _content(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    with archive.open(name) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ModelLoadError(f"ERR {name} in the archive is larger than {most} bytes")
    return content


def _read_about(content: bytes) -> Wanted:
    """Read redisai.json. Unknown fields are ignored: a newer plugin may have written them."""
    try:
        about = json.loads(content)
    except (ValueError, RecursionError):
        raise _bad("is no JSON") from None
    if not isinstance(about, dict):
        raise _bad("is no JSON object")
    if about.get("format", 1) != 1:
        raise _bad(f"has format {_shown(about['format'])}; this engine knows format 1")
    environment = about.get("environment", {"kind": "local"})
    if not isinstance(environment, dict) or environment.get("kind") not in ("local", "path", "uv"):
        raise _bad(f"has the environment {_shown(environment)}; its kind must be local, path or uv")
    replicas = about.get("replicas", 1)
    if type(replicas) is not int or not 1 <= replicas <= _MOST_REPLICAS:
        raise _bad(f"has {_shown(replicas)} replicas; allowed are whole numbers from 1 to {_MOST_REPLICAS}")
    return Wanted(environment, replicas)


def _bad(problem: str) -> ModelLoadError:
    return ModelLoadError(f"ERR {_ABOUT} in the archive {problem}")


def _shown(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
