"""
A model's folder as one file: a ZIP with `redisai.json`, which says how to run it, and the folder under `model/`.

Invariant: the same folder gives the same bytes, whatever the order and the dates of its files. The archive has regular
files only, all of them from within the folder.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from mlflow_redisai.errors import NotConvertible

ABOUT = "redisai.json"
FOLDER = "model"
# A model is one value in memory several times, here, in Redis and in the engine.
MOST_BYTES = 4 << 30

_CHUNK = 1 << 20
_FAST = 1  # level of compression: a tenth of the time of the usual one, for a few percent of the size
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
_READABLE = 0o100644 << 16
_LEFT_OUT = {"__pycache__", ".git", ".ipynb_checkpoints"}


def archived(folder: Path, about: dict[str, Any], what: str) -> bytes:
    """
    Return the archive of a model's folder. `about` becomes redisai.json; `what` names the model in errors.

    Raise NotConvertible for a folder that is too large, or that has links which lead out of it.
    """
    paths = sorted(_files(folder, what))
    size = sum(path.stat().st_size for path in paths)
    if size > MOST_BYTES:
        raise NotConvertible(
            f"{what} has {size >> 20} MiB of files, and a model that is stored in Redis may have {MOST_BYTES >> 20}; "
            "log it without what it can fetch by itself"
        )
    blob = BytesIO()
    with zipfile.ZipFile(blob, "w", zipfile.ZIP_DEFLATED, compresslevel=_FAST) as archive:
        archive.writestr(_entry(ABOUT), json.dumps(about, sort_keys=True))
        for path in paths:
            entry = _entry(f"{FOLDER}/{path.relative_to(folder).as_posix()}")
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _CHUNK)
    return blob.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _FIRST_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, wherever the archive is made
    entry.external_attr = _READABLE
    return entry


def _files(folder: Path, what: str) -> Iterator[Path]:
    """Yield the files in a folder. Links to what is in it are followed."""
    root = folder.resolve()
    for directory, names, files in os.walk(folder):
        names[:] = [name for name in names if name not in _LEFT_OUT]
        for name in [*names, *files]:
            path = Path(directory, name)
            if path.is_symlink():
                _check_link(path, root, folder, what)
        yield from (Path(directory, name) for name in files)


def _check_link(path: Path, root: Path, folder: Path, what: str) -> None:
    shown = path.relative_to(folder).as_posix()
    target = path.resolve()
    if not target.is_relative_to(root):
        raise NotConvertible(f"{what} has a link, {shown}, that leads out of its folder; put the file itself there")
    if not target.is_file():
        raise NotConvertible(f"{what} has a link, {shown}, that leads to no file; put the files themselves there")
