"""
One worker process, seen from the parent: started, watched while it runs, and how it ended.

Its settings come over the link, as the first message, because others may read a process's command line, and the
programs that it starts inherit its environment.

Invariant: a process that is hung, or whose link is broken, is killed. So `ended` returns sooner or later.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from redisai_engine.children import end_with_parent
from redisai_engine.config import ENVIRONMENT_PREFIX, Settings
from redisai_engine.execution.notes import LOADING, Note, Notes
from redisai_engine.folders import new_file
from redisai_engine.process.frames import BrokenFrame, Link, packed
from redisai_engine.process.given import VARIABLE
from redisai_engine.process.output import WorkerOutput
from redisai_engine.process.peers import BEAT_SECONDS, Hub

_PROGRAM = (sys.executable, "-m", "redisai_engine")
_START_SECONDS = 60.0
_LOAD_SECONDS = 60.0
_EXIT_SECONDS = 1.0  # between the end of the link and that of the process

_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

_MINUTE = 60.0
_FIRST_PAUSE = 0.1  # seconds, doubled with every further death within a minute
MANY_DEATHS = 5
_LONG_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended: in words, and whether that was certainly its own fault. `notes` are what it was doing."""

    how: str
    certain: bool
    notes: list[Note]


class Worker:
    """A running process. `number` is its place among the workers, which its successor takes."""

    def __init__(
        self, number: int, process: asyncio.subprocess.Process, link: Link, notes: Notes, *, hub: Hub, timeout: float
    ) -> None:
        self.number = number
        self._process = process
        self._link = link
        self._notes = notes
        self._timeout = timeout
        self._ready = asyncio.Event()
        self._killed_because = ""
        self._watching = [asyncio.create_task(self._serve(hub)), asyncio.create_task(self._watch())]

    @classmethod
    async def start(
        cls,
        number: int,
        settings: Settings,
        hub: Hub,
        output: WorkerOutput,
        *,
        common: Mapping[str, int] | None = None,
        wary: bool = False,
        program: Sequence[str] = _PROGRAM,
    ) -> Worker:
        """
        Start a process. Raise OSError if the system allows no more of them.

        `common` are descriptors of what all workers have: `polling`, where they poll, and `tallies`, what they count.
        """
        with ExitStack() as failed, ExitStack() as given:
            ours, theirs = socket.socketpair()
            failed.callback(ours.close)
            given.callback(theirs.close)
            pipes = []
            for prefix in (f"worker {number} printed: ", f"worker {number}: "):
                pipes.append(output.source(prefix))
                given.callback(os.close, pipes[-1])
            file = given.enter_context(new_file())
            descriptors = {"link": theirs.fileno(), "notes": file.fileno(), **(common or {})}
            ours.sendall(
                packed({"settings": asdict(settings), "number": number, "wary": wary})
            )  # far less than a socket holds
            notes = Notes(file.fileno())
            process = await asyncio.create_subprocess_exec(
                *program,
                env={**_without_settings(os.environ), VARIABLE: json.dumps(descriptors)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=pipes[0],
                stderr=pipes[1],
                pass_fds=tuple(descriptors.values()),
                preexec_fn=end_with_parent,
                start_new_session=True,  # Ctrl-C must reach only the parent, which then drains the workers
            )
            failed.pop_all()
        return cls(number, process, await Link.open(ours), notes, hub=hub, timeout=settings.worker_timeout / 1000)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def is_ready(self) -> bool:
        """Wait until it accepts connections. Return False if it exited first."""
        ready, ended = asyncio.create_task(self._ready.wait()), asyncio.create_task(self._process.wait())
        await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        ended.cancel()
        return self._ready.is_set()

    async def ended(self) -> End:
        """Wait until the process has ended, and return how."""
        code = await self._process.wait()
        for task in self._watching:
            task.cancel()
        how, certain = f"exited with code {code}", True
        if self._killed_because:
            how = f"was killed because {self._killed_because}"
        elif code < 0:
            how, certain = f"was ended by {signal.Signals(-code).name}", -code not in _FROM_OUTSIDE
        return End(how, certain, self._notes.read())

    def terminate(self) -> None:
        """Have it drain and exit."""
        if self._process.returncode is None:
            self._process.terminate()

    def kill(self, because: str) -> None:
        if self._process.returncode is None and not self._killed_because:  # the first reason counts
            self._killed_because = because
            self._process.kill()

    def close(self) -> None:
        """Give back what was kept of a process that has ended: its notes take a descriptor."""
        self._notes.close()

    async def _serve(self, hub: Hub) -> None:
        because = "it closed its link to the parent"
        try:
            await hub.serve(self._link, self._ready)
        except BrokenFrame as error:
            because = f"its link to the parent is broken: {error}"
        else:
            await asyncio.sleep(_EXIT_SECONDS)  # an orderly end closes the link first
        self.kill(because)

    async def _watch(self) -> None:
        """
        Kill the process when its event loop is silent for too long.

        Pauses are counted instead of seconds: a machine that is too busy to let this loop run delays the worker's too.
        """
        heard, silent = 0, 0
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            silent = silent + 1 if self._link.received == heard else 0
            heard = self._link.received
            if silent and silent * BEAT_SECONDS >= (patience := self._patience()):
                self.kill(f"its event loop hasn't run for {patience:g} s")

    def _patience(self) -> float:
        """Return how many seconds of silence are allowed now."""
        if not self._ready.is_set():
            return _START_SECONDS
        if not self._timeout:
            return math.inf
        if any(note.doing == LOADING for note in self._notes.read()):  # frameworks may hold the interpreter meanwhile
            return max(self._timeout, _LOAD_SECONDS)
        return self._timeout


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the engine's own variables, one of which may hold Redis' password."""
    return {name: value for name, value in environment.items() if not name.startswith(ENVIRONMENT_PREFIX)}


class Deaths:
    """The deaths of one worker and its successors in the last minute, and how long to wait after each."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def pause(self, now: float) -> float:
        """Count a death and return the seconds until the next start."""
        self._times.append(now)
        while self._times[0] < now - _MINUTE:
            self._times.popleft()
        if self.are_many:
            return _LONG_PAUSE
        return float(_FIRST_PAUSE * 2 ** (len(self._times) - 1))

    @property
    def are_many(self) -> bool:
        return len(self._times) >= MANY_DEATHS
