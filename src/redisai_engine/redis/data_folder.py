"""
The data folder of the embedded redis-server: private, locked, and only for a server that can read what is in it.

Theory of operation. A server reads what older versions of itself have written, not what newer ones have: redis-server
6.2 opens a folder of 7.0 as if it were empty. So the folder has a file with the version that wrote it last, and an
older one is refused. A folder without that file is judged by its layout. Redis and Valkey read each other's data up to
Redis 7.2, after which their formats differ.

Invariant: at most one engine's redis-server uses a data folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redisai_engine.errors import StartError

PRIVATE_UMASK = 0o077
_LOCK = "engine.lock"
_OURS = ("engine.", "redis.", "appendonly", "dump.rdb")  # how the names begin of what we and a redis-server put there
_VERSION = "redis.version"
_LOCK_SECONDS = 3.0  # the redis-server of a killed engine takes a moment to exit and release the lock
_VERSION_SECONDS = 10.0
_POLL_SECONDS = 0.01
_LAST_COMMON = (7, 2)  # the version of Redis whose format Valkey took over


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """Which server it is, Redis or Valkey, and its version's first two numbers, which alone change the format."""

    product: str
    numbers: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.product} {self.numbers[0]}.{self.numbers[1]}"

    def reads(self, writer: ServerVersion) -> bool:
        """Return whether this server reads what `writer` has written."""
        if self.product == writer.product:
            return self.numbers >= writer.numbers
        return writer.product == "Redis" and writer.numbers <= _LAST_COMMON


_SHOWN = re.compile(r"(?:(Redis|Valkey) (?:server v=)?|Server v=)(\d+)\.(\d+)")  # Valkey 7.2 leaves its name out
_UNVERSIONED_NEW = ServerVersion("Redis", (7, 0))  # the first with the layout of several append-only files


def version_of(server: str) -> ServerVersion:
    """Ask a redis-server or valkey-server for its version. Raise StartError if it tells none."""
    try:
        command = [server, "--version"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StartError(f"{server} can't be run: {error}") from None
    version = _parsed(told)
    if version is None:
        raise StartError(f"{server} --version tells no version: {told[:100]!r}")
    return version


def _parsed(text: str) -> ServerVersion | None:
    found = _SHOWN.search(text)
    return ServerVersion(found[1] or "Valkey", (int(found[2]), int(found[3]))) if found else None


class RedisFolder:
    """The folder. `lock` takes it, `release` gives it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    @property
    def descriptor(self) -> int:
        """The lock. A server that inherits it keeps the folder even if the engine is killed."""
        return self._lock

    @property
    def log(self) -> Path:
        return self.path / "redis.log"

    async def lock(self) -> None:
        """Make the folder if it isn't there, and lock it. Raise StartError if it can't be used or is in use."""
        try:
            self._make()
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            await asyncio.wait_for(self._wait_for_lock(), _LOCK_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            raise StartError(f"the data folder {self.path} is in use by another engine") from None
        except OSError as error:
            raise StartError(f"the data folder {self.path} can't be used: {error.strerror}") from None

    def release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def check(self, server: ServerVersion) -> None:
        """Raise StartError if the server can't read what is in the folder."""
        writer = self._writer()
        if writer is not None and not server.reads(writer):
            raise StartError(
                f"the data folder {self.path} was written by {writer}, which {server} can't read: "
                f"put {writer} or newer on the PATH, or choose another --data-dir"
            )

    def written_by(self, server: ServerVersion) -> None:
        """Note that from now on the folder's content is this server's. Raise OSError."""
        if self._noted() == server:
            return
        new = self.path / f"{_VERSION}.new"
        new.write_text(f"{server}\n")
        new.chmod(0o600)
        new.replace(self.path / _VERSION)

    def last_log_line(self) -> str:
        try:
            return self.log.read_text(errors="replace").strip().splitlines()[-1]
        except (OSError, IndexError):
            return ""

    def _make(self) -> None:
        """Make the folder private. One with other content is left as it is: it serves another purpose, too."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if all(name.startswith(_OURS) for name in os.listdir(self.path)):
            with suppress(PermissionError):  # a volume that belongs to another user
                self.path.chmod(0o700)

    def _writer(self) -> ServerVersion | None:
        """Return which server's data is in the folder, or None if any may use it."""
        return self._noted() or (_UNVERSIONED_NEW if (self.path / "appendonlydir").exists() else None)

    def _noted(self) -> ServerVersion | None:
        with suppress(OSError):
            return _parsed((self.path / _VERSION).read_text(errors="replace"))
        return None

    async def _wait_for_lock(self) -> None:
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return
