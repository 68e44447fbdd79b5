"""A pseudo-terminal (pty): what a program shows a user who sits in front of it, and nobody else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path

ROWS, COLUMNS = 40, 120


class Terminal:
    """`file` is the inner end, a descriptor for programs to write to. `text` is what has been written there."""

    def __init__(self) -> None:
        self._outer, self.file = pty.openpty()
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))

    def text(self) -> str:
        """Close the inner end. Return what was written there, once no other process has it open."""
        os.close(self.file)
        written = bytearray()
        # Linux reports the end as an OSError.
        with contextlib.suppress(OSError):
            while some := os.read(self._outer, 65536):
                written += some
        os.close(self._outer)
        return written.decode()


@contextlib.contextmanager
def as_stderr() -> Iterator[Terminal]:
    """Yield a terminal that is this process' stderr inside the block. Read its text after the block."""
    terminal = Terminal()
    with open(terminal.file, "w", closefd=False) as file, contextlib.redirect_stderr(file):
        yield terminal


def run(command: list[str], environment: Mapping[str, str], cwd: Path) -> tuple[int, str]:
    """Run a program in a terminal. Return its exit code and everything that it showed."""
    terminal = Terminal()
    end = terminal.file
    with subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env=environment, cwd=cwd) as process:
        shown = terminal.text()
        return process.wait(), shown
