"""
Which blobs are to blame when a process has died, and what follows.

A crash, or a hang, is the fault of what was being loaded, or else of what ran. What was done during a death that may
have come from outside, such as SIGKILL by the operator or by a system that is short of memory, is blamed the second
time.

Without a parent, the next process reads what the one before has left in the data folder. It can't know how that one
died, so the second death counts, too.

Invariant: what is blamed is refused for `seconds`, from now on, in all processes.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from redisai_engine.execution.notes import LOADING, Note, Notes
from redisai_engine.execution.quarantine import Table

_NOTES = "engine.notes"
_TABLE = "engine.quarantine"
_SUSPECT_SECONDS = 3600.0  # how long a death that may have come from outside is remembered

_log = logging.getLogger(__name__)


class Crashes:
    """The deaths so far. `refused` is the table of what is refused."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.refused: Table = {}
        self._suspected: dict[str, float] = {}  # digests, and when they were noted during a doubtful death

    def died(self, notes: Sequence[Note], why: str, *, certain: bool) -> bool:
        """
        Take what was noted when a process died. Return whether something is refused because of it.

        `why` is what to say of it: "was ended by SIGSEGV". `certain` means that the death didn't come from outside.
        """
        now = time.time()
        self._forget(now)
        loading = [note for note in notes if note.doing == LOADING]
        blamed = [note.digest for note in loading or notes]
        if not certain:
            blamed, doubtful = [each for each in blamed if each in self._suspected], blamed
            self._suspected.update(dict.fromkeys(doubtful, now))
        for digest in blamed if self._seconds else ():
            self.refused[digest] = (now + self._seconds, why)
            _log.error(
                "the model or script with digest %s is refused for %g s, because the process that %s it %s",
                *(digest, self._seconds, "loaded" if loading else "ran", why),
            )
        return bool(blamed)

    def _forget(self, now: float) -> None:
        self.refused = {digest: row for digest, row in self.refused.items() if row[0] > now}
        self._suspected = {digest: at for digest, at in self._suspected.items() if at > now - _SUSPECT_SECONDS}

    # -- without a parent

    @classmethod
    def recalled(cls, folder: Path, seconds: float) -> tuple[Crashes, Notes]:
        """Return what earlier processes have left in the data folder, and the notes of this one."""
        crashes = cls(seconds)
        notes = Notes(os.open(folder / _NOTES, os.O_RDWR | os.O_CREAT, 0o600))
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # none yet, or a damaged one
            told = json.loads((folder / _TABLE).read_text())
            crashes.refused = {str(digest): (float(row[0]), str(row[1])) for digest, row in told["refused"].items()}
            crashes._suspected = {str(digest): float(at) for digest, at in told["suspected"].items()}
        if left := notes.read():
            crashes.died(left, "didn't end in an orderly way", certain=False)
        with suppress(OSError):
            crashes._save(folder / _TABLE)
        notes.clear()
        return crashes, notes

    def _save(self, path: Path) -> None:
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"refused": self.refused, "suspected": self._suspected}))
        new.chmod(0o600)
        new.replace(path)
