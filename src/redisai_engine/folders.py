"""
Temporary files, private temporary folders, and the removal of those that killed engines have left.

Python's `tempfile` and `shutil`, with all that they import, take a megabyte, so each engine does without the first, and
without the second until it has to remove a folder.

Invariant: a folder is locked as long as the process that made it lives, so a folder that can be locked is nobody's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_PREFIX = "redisai-engine-"
_LOCK = "owner.lock"
_UNLOCKED_SECONDS = 60.0  # how long its maker may take to lock a new folder
_LONGEST_PARENT = 64  # bytes; with what comes below it, a socket's path may have 103 on macOS and 107 on Linux
_SHORT_PARENT = "/tmp"  # nobody can foresee the names in it  # nosec B108
_VARIABLES = ("TMPDIR", "TEMP", "TMP")
_USUAL_PARENTS = (_SHORT_PARENT, "/var/tmp")  # nosec B108


def new_file() -> BinaryIO:
    """Return a new temporary file without a name, which is gone as soon as it is closed. Raise OSError."""
    path = Path(_usual_parent(), _new_name())
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    path.unlink()
    return open(descriptor, "w+b")


class PrivateFolder:
    """A new temporary folder that only this user may enter. `path` is where it is."""

    def __init__(self) -> None:
        self.path = Path(_parent(), _new_name())
        self.path.mkdir(mode=0o700)  # never one that is there already
        try:
            self._lock = _locked(self.path / _LOCK)
        except OSError:
            self.path.rmdir()  # `_remove` would need a descriptor
            raise

    def remove(self) -> None:
        _remove(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_abandoned_folders() -> None:
    """Remove the folders of engines of this user that didn't live to remove them."""
    for folder in Path(_parent()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if status.st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink():
                _remove_if_abandoned(folder, status.st_mtime)


def _parent() -> str:
    """Return the folder for temporary files, or a shorter one if sockets in that one would have too long a path."""
    usual = _usual_parent()
    is_short = len(os.fsencode(usual)) <= _LONGEST_PARENT
    return usual if is_short or not os.access(_SHORT_PARENT, os.W_OK | os.X_OK) else _SHORT_PARENT


def _usual_parent() -> str:
    """Return the folder for temporary files, as `tempfile` finds it. Raise FileNotFoundError if there is none."""
    named = [os.environ[name] for name in _VARIABLES if os.environ.get(name)]
    for folder in (*named, *_USUAL_PARENTS, os.curdir):
        if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    raise FileNotFoundError(errno.ENOENT, f"there is no folder for temporary files; set {_VARIABLES[0]}")


def _new_name() -> str:
    """Return a name that nobody can foresee."""
    return f"{_PREFIX}{os.urandom(5).hex()}"


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _remove_if_abandoned(folder: Path, made_at: float) -> None:
    if not (folder / _LOCK).exists() and time.time() - made_at < _UNLOCKED_SECONDS:
        return
    lock = _locked(folder / _LOCK)
    if lock is not None:
        _remove(folder)
        os.close(lock)


def _locked(path: Path) -> int | None:
    """Open a file and lock it. Return its descriptor, which must stay open, or None if another process has the lock."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
