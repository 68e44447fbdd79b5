"""
Locks between processes, on files.

Theory of operation. The kernel drops a lock when the process that has it ends, however it ends. A lock's file may be
removed by who has it exclusively; so after locking, the file must still be the one of that name, or else another
process has a lock on another file.

Invariant: of all `FileLock`s of one path, either one is exclusive or any number are shared.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class FileLock:
    """A lock that is not taken yet. Each instance is a holder of its own, in one process or several."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1

    def try_shared(self) -> bool:
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        return self._try(fcntl.LOCK_EX)

    def touch(self) -> None:
        """Note that it was used now."""
        with contextlib.suppress(OSError):
            os.utime(self._file)

    def remove(self) -> None:
        """Remove the file and give up the lock, which must be exclusive."""
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _try(self, kind: int) -> bool:
        """Take the lock, or change its kind, without waiting. A change that fails gives it up."""
        while True:
            if self._file < 0:
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                self.release()
                return False
            if self._is_current():
                return True
            self.release()

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file))
        except FileNotFoundError:
            return False
