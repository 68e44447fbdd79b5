"""
Environments for the models of an engine: found or built, marked as in use, and removed when others need the room.

Theory of operation. An environment's name follows from what is wanted. Who wants it takes its lock shared, and has it
if it is ready. Otherwise he takes the lock exclusively, looks again, builds it, and takes the lock shared. The shared
lock stays for as long as the engine uses the environment, and is what keeps others from removing it. So any number of
engines and worker processes share a folder, and of several that want the same environment at once, one builds it.

Invariant: an interpreter that was returned, and not released, stays complete.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from redisai_engine.config import Settings
from redisai_engine.environments.background import Background
from redisai_engine.environments.building import build
from redisai_engine.environments.folder import EnvironmentFolder
from redisai_engine.environments.interpreters import checked_interpreter
from redisai_engine.environments.locks import FileLock
from redisai_engine.environments.log import BuildLog
from redisai_engine.environments.uv import Uv, find_uv
from redisai_engine.environments.variables import builder_variables
from redisai_engine.environments.wanted import WantedEnvironment, read_wanted
from redisai_engine.errors import EngineClosing, EnvironmentFailure
from redisai_engine.users import ModelUser

_BUILDS_AT_ONCE = 2  # per process, so that a burst of stores doesn't take all processors
_POLL_SECONDS = 0.05

Told = Callable[[str], None]


class Environments:
    """
    The environments in a folder, which needn't be there yet. May be used by several threads.

    `limit` is how many bytes they may take together; 0: any number. `user` is who uses them, if it isn't this one.
    `variables` are those that the builder's are taken from.
    """

    def __init__(
        self,
        folder: Path,
        limit: int,
        *,
        source_builds: bool = False,
        user: ModelUser | None = None,
        variables: Mapping[str, str] = os.environ,
    ) -> None:
        self._folder = EnvironmentFolder(folder, is_passable=user is not None)
        self._user = user
        self._limit = limit
        self._source_builds = source_builds
        self._variables = builder_variables(variables, self._folder.cache)
        self._building = threading.BoundedSemaphore(_BUILDS_AT_ONCE)
        self._closing = threading.Event()
        self._background = Background()
        self._marks: dict[str, FileLock] = {}
        self._uses: Counter[str] = Counter()
        self._lock = threading.RLock()  # the garbage collector may release what a model used, in the midst of anything

    @property
    def folder(self) -> Path:
        return self._folder.path

    def interpreter(self, wanted: Mapping[str, Any], files: Mapping[str, bytes], told: Told, seconds: float) -> str:
        """
        Return the path of a Python with what a model's redisai.json wants, built now if it isn't there.

        `files` are the model's uv.lock and pyproject.toml, if any. `told` gets lines about the progress. The
        environment stays until `release` is called as often as this. Raise EnvironmentFailure that names what is
        missing, also after `seconds`, and EngineClosing.
        """
        kind = wanted.get("kind")
        if kind == "local":
            return sys.executable
        if kind == "path":
            return checked_interpreter(wanted.get("path"), self._user)
        if kind != "uv":
            raise EnvironmentFailure(f"{str(kind)[:40]!r} isn't local, path or uv")
        try:
            return self._reachable(self._ready(read_wanted(wanted, files), told, monotonic() + seconds))
        except OSError as error:
            raise EnvironmentFailure(f"env-dir {self._folder.path} can't be used: {error.strerror}") from None

    def requirement(
        self, wanted: Mapping[str, Any], files: Mapping[str, bytes], told: Told, seconds: float
    ) -> Callable[[], None]:
        """
        Return a function that raises EnvironmentFailure as long as an environment isn't there, but has it built.

        It takes microseconds, because that is done in the background.
        """
        if wanted.get("kind") != "uv":
            return lambda: None
        name = read_wanted(wanted, files).name()

        def require() -> None:
            if not self._folder.is_ready(name):
                raise self._background.begin(name, lambda: self.release(self.interpreter(wanted, files, told, seconds)))

        return require

    def release(self, interpreter: str) -> None:
        """Note that one user less has an interpreter. Those that were not built here may be released, too."""
        with self._lock:
            if self._uses[interpreter] > 1:
                self._uses[interpreter] -= 1
            elif interpreter in self._marks:
                mark = self._marks.pop(interpreter)
                mark.touch()
                mark.release()
                del self._uses[interpreter]

    def close(self) -> None:
        """End what is being built, and release everything."""
        self._closing.set()
        with self._lock:
            for mark in self._marks.values():
                mark.release()
            self._marks.clear()
            self._uses.clear()

    def _reachable(self, interpreter: str) -> str:
        """Return an interpreter that its user may start. Raise EnvironmentFailure for another one."""
        obstacle = None if self._user is None else self._user.obstacle(interpreter)
        if obstacle is not None and self._user is not None:
            self.release(interpreter)
            raise EnvironmentFailure(f"worker-user {self._user.name} may not enter or execute {obstacle}")
        return interpreter

    def _ready(self, wanted: WantedEnvironment, told: Told, deadline: float) -> str:
        self._folder.make()
        name = wanted.name()
        lock = self._folder.lock(name)
        try:
            is_waiting = False
            while not (lock.try_shared() and self._folder.is_ready(name)):
                if lock.try_exclusive():
                    if not self._folder.is_ready(name):
                        self._build(name, wanted, told, deadline)
                    continue
                if not is_waiting:
                    told("waiting for the same environment, which is being built")
                    is_waiting = True
                self._pause(deadline)
            return self._marked(name, lock)
        except BaseException:
            lock.release()
            raise

    def _marked(self, name: str, lock: FileLock) -> str:
        """Keep the shared lock, unless this process has one already."""
        interpreter = str(self._folder.interpreter(name))
        lock.touch()
        with self._lock:
            if self._closing.is_set():
                lock.release()
                raise EngineClosing
            self._uses[interpreter] += 1
            if interpreter in self._marks:
                lock.release()
            else:
                self._marks[interpreter] = lock
        return interpreter

    def _build(self, name: str, wanted: WantedEnvironment, told: Told, deadline: float) -> None:
        while not self._building.acquire(timeout=_POLL_SECONDS):
            self._pause(deadline)
        try:
            with BuildLog(self._folder.log(name), told) as log:
                uv = Uv(find_uv(), self._variables, log.told, deadline, self._closing)
                self._built(uv, name, wanted)
            self._folder.clean_up()
        finally:
            self._building.release()

    def _built(self, uv: Uv, name: str, wanted: WantedEnvironment) -> None:
        folder = self._folder.new(name)
        try:
            built = build(uv, wanted, folder, source_builds=self._source_builds)
            description = {"python": built.python, "requirements": built.requirements}
            self._folder.complete(name, built.folder, description, self._limit)
        finally:
            self._folder.discard(folder)

    def _pause(self, deadline: float) -> None:
        if self._closing.wait(_POLL_SECONDS):
            raise EngineClosing
        if monotonic() > deadline:
            raise EnvironmentFailure("others are building environments for longer than env-timeout allows to wait")


def environments_of(settings: Settings) -> Environments:
    """Return the environments of an engine with these settings."""
    folder = Path(settings.env_dir) if settings.env_dir else _usual_folder(settings)
    return Environments(
        folder.expanduser().absolute(),
        settings.env_limit,
        source_builds=settings.env_source_builds,
        user=ModelUser.named(settings.worker_user),
    )


def _usual_folder(settings: Settings) -> Path:
    """Return the user's folder for caches, which all engines share. Or one that another user reaches, or any."""
    cache, home = os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME")
    if settings.worker_user:
        return Path("/var/cache/redisai-engine/environments")  # root's own folders are closed to others
    if cache or home:
        return Path(cache or f"{home}/.cache") / "redisai-engine" / "environments"
    return Path(settings.data_dir) / "environments"
