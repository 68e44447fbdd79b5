"""
The log: what the engine, its workers, and the models and scripts in them print, written to standard error.

Theory of operation. Standard output and error of the process and of its workers are pipes, which a thread reads
always. So a script that prints never waits. The thread writes line by line to what was standard error when the engine
started. If nobody reads that, or somebody prints without end, lines are left out and counted. The latter's pipe is read
in large pieces with pauses between them, because each piece costs the event loop some of the interpreter's time.

Invariants: the thread never waits for a writer or a reader. A line has at most `_LINE_BYTES`, a source at most
`_LINES_PER_SECOND` on average. No line has characters that steer a terminal.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import select
import selectors
import sys
import threading
from collections import deque
from time import monotonic, sleep

_LINE_BYTES = 3000  # with its prefix less than PIPE_BUF (4096), which a pipe that is writable takes without waiting
_LINES_PER_SECOND = 100.0
_BURST_SECONDS = 10.0  # a source may use the lines of so many seconds at once
_PIPE_BYTES = 2**20
_READ_BYTES = 2**16
_PAUSE_SECONDS = 0.01  # while somebody prints too much
_COUNT_SECONDS = 1.0  # how soon the number of lines left out is told
_END_SECONDS = 2.0  # for what was printed until the process ends
_LAST_WAIT_MS = 500
_PLAIN = bytes(byte if byte >= 32 or byte == 9 else ord("?") for byte in range(256)).replace(b"\x7f", b"?")


class _Pipe:
    """What one pipe brings, as the lines to be logged, at most `rate` a second. Each starts with `prefix`."""

    def __init__(self, prefix: str, rate: float) -> None:
        self._prefix = prefix.encode()
        self._rest = b""  # the beginning of a line
        self._rate = rate
        self._allowed = rate * _BURST_SECONDS
        self._filled_at = monotonic()
        self.left_out = 0

    def lines(self, data: bytes) -> list[bytes]:
        """Take bytes and return the lines that they complete, as far as the rate allows."""
        self._fill()
        if self._allowed < 1:  # somebody prints without end: spend little on it
            self.left_out += data.count(b"\n")
            self._rest = data[data.rfind(b"\n") + 1 :] if b"\n" in data else self._rest[:_LINE_BYTES] + data
            return []
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_BYTES:
            whole.append(self._rest)
            self._rest = b""
        allowed = int(min(len(whole), self._allowed))
        self._allowed -= allowed
        self.left_out += len(whole) - allowed
        return [self._line(line) for line in whole[:allowed]]

    @property
    def is_over(self) -> bool:
        """Whether the rate allowed no line when the pipe was last read."""
        return self._allowed < 1

    @property
    def may_tell(self) -> bool:
        """Whether lines were left out and the rate allows to tell how many."""
        self._fill()
        return self.left_out > 0 and self._allowed >= 1

    def told(self) -> bytes:
        """Return the line that tells how many were left out. Who writes it sets `left_out` to 0."""
        return self._line(b"(%d lines left out: too many, or nobody reads the log)" % self.left_out)

    def end(self) -> list[bytes]:
        """Return a last line without its end, if there is one."""
        rest, self._rest = self._rest, b""
        return [self._line(rest)] if rest else []

    def _fill(self) -> None:
        now = monotonic()
        self._allowed = min(self._rate * _BURST_SECONDS, self._allowed + (now - self._filled_at) * self._rate)
        self._filled_at = now

    def _line(self, line: bytes) -> bytes:
        cut = line if len(line) <= _LINE_BYTES else line[:_LINE_BYTES] + b"..."
        return self._prefix + cut.translate(_PLAIN) + b"\n"


class WorkerOutput:
    """
    The thread, and the pipes that it reads. As a context manager it takes over the process's own output.

    `announce` is for the line that says that the engine is ready: the only one that goes to standard output.
    """

    def __init__(self) -> None:
        self._own = {1: os.dup(1), 2: os.dup(2)}
        self._selector = selectors.DefaultSelector()
        self._new: deque[tuple[int, _Pipe]] = deque()
        self._wake_end, self._waker = os.pipe()
        self._selector.register(self._wake_end, selectors.EVENT_READ)
        self._writable = select.poll()
        self._writable.register(self._own[2], select.POLLOUT)
        self._ending = False
        self._ends_at = 0.0
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)

    def __enter__(self) -> WorkerOutput:
        self._thread.start()
        faulthandler.enable(self._own[2])  # directly: a pipe of this process dies with it
        for number, prefix in ((1, "printed: "), (2, "")):
            _flush()
            pipe = self.source(prefix)
            os.dup2(pipe, number)
            os.close(pipe)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what was printed until now, and give the process its own output back."""
        _flush()
        for number, before in self._own.items():
            os.dup2(before, number)
        self._ends_at = monotonic() + _END_SECONDS / 2
        self._ending = True
        os.write(self._waker, b".")
        self._thread.join(_END_SECONDS)

    def source(self, prefix: str, lines_per_second: float = _LINES_PER_SECOND) -> int:
        """
        Return the writing end of a new pipe, for a process whose lines get this prefix. Close it after the fork.

        May be called in any thread.
        """
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        with contextlib.suppress(OSError):  # the user's pipes are large enough already, or this system has no such call
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._new.append((reading, _Pipe(prefix, lines_per_second)))
        os.write(self._waker, b".")
        return writing

    def announce(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._own[1], f"{line}\n".encode())

    # -- the thread

    def _work(self) -> None:
        while not self._ending:
            sources = [key.data for key in self._selector.get_map().values() if key.data is not None]
            waits = any(source.left_out for source in sources)
            is_flooded = False
            for key, _ in self._selector.select(_COUNT_SECONDS if waits else None):
                if key.data is None:
                    os.read(self._wake_end, _READ_BYTES)
                    self._take_new()
                else:
                    self._read(key.fd, key.data)
                    is_flooded = is_flooded or key.data.is_over
            for source in sources if waits else []:
                if source.may_tell:
                    self._tell(source)
            if is_flooded:
                sleep(_PAUSE_SECONDS)
        self._take_new()
        for key in [key for key in self._selector.get_map().values() if key.data is not None]:
            while monotonic() < self._ends_at and self._read(key.fd, key.data):
                pass
            self._writable.poll(_LAST_WAIT_MS)  # for a reader who is only slow
            self._end(key.data)

    def _take_new(self) -> None:
        while self._new:
            pipe, source = self._new.popleft()
            self._selector.register(pipe, selectors.EVENT_READ, source)

    def _read(self, pipe: int, source: _Pipe) -> bool:
        """Read once. Return False if there is nothing more for now."""
        try:
            data = os.read(pipe, _PIPE_BYTES if source.is_over else _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._write(source, source.lines(data))
            return True
        self._end(source)
        self._selector.unregister(pipe)
        os.close(pipe)
        return False

    def _write(self, source: _Pipe, lines: list[bytes]) -> None:
        for line in lines:
            source.left_out += not self._put(line)

    def _tell(self, source: _Pipe) -> None:
        if source.left_out and self._put(source.told()):
            source.left_out = 0

    def _end(self, source: _Pipe) -> None:
        self._tell(source)
        self._write(source, source.end())

    def _put(self, line: bytes) -> bool:
        """Write a line. Return False where nobody reads, the reader is gone, or the disk is full."""
        if not self._writable.poll(0):
            return False
        try:
            return os.write(self._own[2], line) == len(line)
        except OSError:
            return False


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
