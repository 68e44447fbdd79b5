"""
The user whose rights the processes of models have, if it isn't the engine's: what it may reach.

Invariant: nothing here changes rights, it only reads them.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from redisai_engine.errors import StartError


@dataclass(frozen=True, slots=True)
class ModelUser:
    """A user of this machine, without further groups."""

    name: str
    id: int
    group: int

    @classmethod
    def named(cls, name: str) -> ModelUser | None:
        """Return the user, None for an empty name. Raise KeyError for one that the machine doesn't know."""
        if not name:
            return None
        entry = pwd.getpwnam(name)
        return cls(name, entry.pw_uid, entry.pw_gid)

    def obstacle(self, program: str) -> Path | None:
        """Return what keeps this user from executing a program, a folder or the file, or None."""
        path = Path(program)
        for part in (*reversed(path.absolute().parents), path, *reversed(Path(os.path.realpath(path)).parents)):
            status = part.stat()
            owner, group = status.st_uid == self.id, status.st_gid == self.group
            needed = 0o100 if owner else 0o010 if group else 0o001
            if not status.st_mode & needed:
                return part
        return None


def refuse_unusable(name: str) -> None:
    """Raise StartError if processes can't have the rights of the user that `worker-user` names, if it names one."""
    if not name:
        return
    if os.geteuid():
        raise StartError("worker-user is for engines of root: only root may start processes of other users")
    try:
        ModelUser.named(name)
    except KeyError:
        raise StartError(f"worker-user can't be {name!r}: this machine has no such user") from None
