"""
uv, the program that builds environments: where it is, and one run of it.

Invariant: a run ends with the deadline, with the engine, and when the engine closes, along with all processes that uv
has started. What it prints is masked, cut and bounded before anyone gets it.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from redisai_engine.children import end_with_parent
from redisai_engine.environments.variables import mask, secrets_of
from redisai_engine.errors import EngineClosing, EnvironmentFailure

_LONGEST_LINE = 300  # characters
_MOST_KEPT = 400  # lines, the last ones
_MOST_BYTES = 16 * 2**20  # of what a list of locked packages may be
_POLL_SECONDS = 0.2  # how soon a run ends when the engine closes
_GRACE_SECONDS = 2.0
_READ_BYTES = 2**16
_STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x20-\x7e\x80-\U0010ffff]")


class UvFailed(Exception):
    """Uv has ended with an error. The text is what it has printed, masked."""


def find_uv() -> str:
    """Return the path of uv: the Python package's, which has a version that is known, or that on the PATH."""
    with contextlib.suppress(ImportError, OSError):
        from uv import find_uv_bin

        return str(find_uv_bin())
    found = shutil.which("uv")
    if found is None:
        raise EnvironmentFailure("the engine needs uv to build it: pip install 'mlflow-redisai[engine]'")
    return found


@dataclass(frozen=True, slots=True)
class Uv:
    """How to run it. `told` gets each line that it prints, `closing` ends it early."""

    program: str
    variables: Mapping[str, str]
    told: Callable[[str], None]
    deadline: float
    closing: threading.Event

    def run(self, *arguments: str, folder: Path) -> None:
        """Run uv in a folder. Raise UvFailed, and EnvironmentFailure if it takes too long."""
        secrets = secrets_of(self.variables)
        kept: deque[str] = deque(maxlen=_MOST_KEPT)
        with self._started(arguments, folder, subprocess.STDOUT) as process:
            for line in self._lines(process):
                shown = mask(_STEERING.sub("", line), secrets)
                kept.append(shown)
                if shown.strip():
                    self.told(shown.strip()[:_LONGEST_LINE])
            code = self._exit_code(process)
        if code:
            raise UvFailed("\n".join(kept) or f"uv has ended with {_ending(code)}")

    def output(self, *arguments: str, folder: Path) -> str:
        """Return what uv prints to its standard output. Raise as `run` does."""
        with (folder / "printed").open("w+") as errors, self._started(arguments, folder, errors.fileno()) as process:
            text = "\n".join(self._lines(process))
            code = self._exit_code(process)
            errors.seek(0)
            printed = errors.read(_READ_BYTES)
        if code:
            raise UvFailed(mask(_STEERING.sub("", printed), secrets_of(self.variables)) or f"uv {_ending(code)}")
        return text

    @contextlib.contextmanager
    def _started(self, arguments: tuple[str, ...], folder: Path, errors: int) -> Iterator[subprocess.Popen[bytes]]:
        try:
            process = subprocess.Popen(
                [self.program, *arguments],
                cwd=folder,
                env=dict(self.variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                umask=0o022,  # another user may be the one that runs it
                preexec_fn=end_with_parent,  # noqa: PLW1509  # it calls one function of the C library, and takes no lock
            )
        except OSError as error:
            raise EnvironmentFailure(f"{self.program} can't be run: {error.strerror}") from None
        with process:
            try:
                yield process
            finally:
                _end(process)

    def _lines(self, process: subprocess.Popen[bytes]) -> Iterator[str]:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        rest, length = b"", 0
        while True:
            self.check_time()
            if not select.select([pipe], [], [], _POLL_SECONDS)[0]:
                continue
            data = os.read(pipe, _READ_BYTES)
            length += len(data)
            if length > _MOST_BYTES:
                raise UvFailed(f"uv has printed more than {_MOST_BYTES} bytes")
            if not data:
                break
            *whole, rest = (rest + data).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
        if rest:
            yield rest.decode(errors="replace")

    def _exit_code(self, process: subprocess.Popen[bytes]) -> int:
        while True:
            self.check_time()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_SECONDS)

    def check_time(self) -> None:
        """Raise EngineClosing or EnvironmentFailure if nothing more may be done."""
        if self.closing.is_set():
            raise EngineClosing
        if monotonic() > self.deadline:
            raise EnvironmentFailure("building it takes longer than env-timeout allows; what is downloaded is kept")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started, if any are left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"ended by signal {-code}"
