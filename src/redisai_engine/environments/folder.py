"""
The folder of environments: what is in it, and what has to go.

`ready/NAME` is an environment, complete as soon as it exists. `new/NAME.XXXX` is one that is being built or removed, or
that a killed builder has left. `locks/NAME` is locked exclusively by who builds or removes it and shared by who uses
it, and its time is that of the last use. `logs/NAME.log` is what the builder has said. `cache` is uv's, where it has no
other.

Invariant: nothing of an environment is changed without its exclusive lock.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from redisai_engine.environments.locks import FileLock
from redisai_engine.errors import EnvironmentFailure

_DESCRIPTION = "environment.json"
_MOST_FAILED = 50  # environments that couldn't be built, whose logs are kept


class EnvironmentFolder:
    """
    The folder at `path`. Nothing is in it before `make`.

    `is_passable` lets other users use what they know the name of, but not see what is there.
    """

    def __init__(self, path: Path, *, is_passable: bool = False) -> None:
        self.path = path
        self._mode = 0o711 if is_passable else 0o700
        self.cache = path / "cache"
        self._ready, self._new, self._locks, self._logs = (path / name for name in ("ready", "new", "locks", "logs"))

    def make(self) -> None:
        """Make the folder, which only this user may change. Raise EnvironmentFailure if it can't be used safely."""
        try:
            is_there = self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = self.path.stat()
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise EnvironmentFailure(f"env-dir {self.path} is another user's, or others may write into it")
            for folder in (self._ready, self._new, self._locks, self._logs):
                folder.mkdir(exist_ok=True, mode=0o700)
            if not is_there:
                self.path.chmod(self._mode)
            self._ready.chmod(self._mode)
        except OSError as error:
            raise EnvironmentFailure(f"env-dir {self.path} can't be used: {error.strerror}") from None

    def lock(self, name: str) -> FileLock:
        return FileLock(self._locks / name)

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def interpreter(self, name: str) -> Path:
        return self._ready / name / "bin" / "python"

    def is_ready(self, name: str) -> bool:
        """Return whether the environment is there, and the Python that it was built with still is."""
        return (self._ready / name / _DESCRIPTION).is_file() and os.access(self.interpreter(name), os.X_OK)

    def new(self, name: str) -> Path:
        """Return an empty folder to build an environment in. Remove what killed builders of the same one have left."""
        self._sweep(name)
        return Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self._new))

    def complete(self, name: str, built: Path, description: Mapping[str, object], limit: int) -> None:
        """
        Give a built environment its name, and remove others so that all fit into `limit`.

        Raise EnvironmentFailure if it has no room beside those that are in use. A limit of 0 is none.
        """
        size = _bytes_in(built)
        if limit:
            self._make_room(size, limit)
        (built / _DESCRIPTION).write_text(json.dumps({**description, "bytes": size}, indent=1) + "\n")
        self._remove(name)
        built.rename(self._ready / name)

    def discard(self, built: Path) -> None:
        shutil.rmtree(built, ignore_errors=True)

    def clean_up(self) -> None:
        """Remove what killed builders have left, and the oldest traces of environments that couldn't be built."""
        for name in {path.name.rpartition(".")[0] for path in self._new.iterdir()}:
            lock = self.lock(name)
            if lock.try_exclusive():
                self._sweep(name)
                lock.release()
        there = set(os.listdir(self._ready))
        failed = sorted((path.name for path in self._locks.iterdir() if path.name not in there), key=self._last_use)
        for name in failed[: max(0, len(failed) - _MOST_FAILED)]:
            self._removed(name)

    def _make_room(self, needed: int, limit: int) -> None:
        sizes = {name: self._size(name) for name in os.listdir(self._ready)}
        used = sum(sizes.values())
        for name in sorted(sizes, key=self._last_use):
            if used + needed > limit and self._removed(name):
                used -= sizes[name]
        if used + needed > limit:
            raise EnvironmentFailure(f"it takes {needed} bytes; env-limit allows {limit}, of which {used} are in use")

    def _removed(self, name: str) -> bool:
        """Remove an environment and its traces, unless somebody uses it."""
        lock = self.lock(name)
        if not lock.try_exclusive():
            return False
        self._remove(name)
        self.log(name).unlink(missing_ok=True)
        lock.remove()
        return True

    def _remove(self, name: str) -> None:
        """Remove an environment, if it is there. It loses its name at once."""
        old = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self._new))
        with suppress(FileNotFoundError):
            (self._ready / name).rename(old)
        self.discard(old)

    def _sweep(self, name: str) -> None:
        for left in self._new.glob(f"{name}.*"):
            shutil.rmtree(left, ignore_errors=True)

    def _size(self, name: str) -> int:
        """Return what an environment was measured to take, or 0 if it doesn't say."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads((self._ready / name / _DESCRIPTION).read_text())["bytes"])
        return 0

    def _last_use(self, name: str) -> float:
        with suppress(OSError):
            return (self._locks / name).stat().st_mtime
        return 0.0


def _bytes_in(folder: Path) -> int:
    """Return the sizes of all files together. Those that environments share count in each."""
    return sum((Path(where) / name).lstat().st_size for where, _, names in os.walk(folder) for name in names)
