"""
The program of a process from which all hosts of one framework are forked: `python -c "...; main()"`.

Theory of operation. A framework takes hundreds of megabytes and seconds to import. This process imports it once and
forks a host for each model, which shares that memory. It reads nothing that comes from a client, so that it can be
trusted to end hosts. For each host the engine sends three descriptors: the host's end of their channel, one end of a
*lifeline*, and the file with the blob. When the engine closes its end of the lifeline, the host is killed. When the
host has ended, its exit status is written there.

Invariant: it ends when the engine does, and no host outlives it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

from redisai_engine.backends.registry import backend
from redisai_engine.execution.hosts import filter as system_calls
from redisai_engine.execution.hosts import limits, worker

_O_ASYNC = 0o20000  # Linux: send SIGIO when something happens to the socket
_MOST_BYTES = 1 << 16
_DESCRIPTORS = 3  # that come with a request

# Of glibc's blocks of memory, in bytes
_LARGEST = 1 << 16  # less than what it asks the system for separately
_FINE, _STEP = 1 << 11, 16  # below so many each size has blocks of its own
_HEADER = 8  # before each block


def main() -> None:
    """Import the framework named on the command line, say that it's ready, and fork until the engine has ended."""
    name, descriptor = sys.argv[1], int(sys.argv[2])
    control = socket.socket(fileno=descriptor)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # sent to the engine's whole group; the engine ends this process itself
    for stream in (sys.stdout, sys.stderr):  # a host is killed at its end, whatever is still buffered
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    with _ending_with(control):
        answer = _imported(name)
    control.send(json.dumps(answer).encode())
    if "version" in answer:
        gc.collect()
        take_holes()
        gc.freeze()  # so that a host's collector doesn't write to the memory that all share
        Forking(control).serve()
        os._exit(0)  # the hosts end with this process, and a framework may take seconds to be taken apart


@contextlib.contextmanager
def _ending_with(control: socket.socket) -> Any:
    """End this process if the engine ends during a long import. The engine sends nothing meanwhile."""
    if sys.platform != "linux":
        yield
        return
    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(control, fcntl.F_SETFL, flags | _O_ASYNC)  # the default action of SIGIO is to end the process
    yield
    fcntl.fcntl(control, fcntl.F_SETFL, flags)


def _imported(name: str) -> dict[str, str]:
    try:
        framework = backend(name)
        framework.warm_up()
        system_calls.program()
        return {"version": framework.version}
    except Exception as error:
        return {"failed": str(error)}


class Forking:
    """The hosts that have been forked. `control` is where the engine asks for one."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._folders = limits.readable_folders()
        self._lifelines: dict[int, socket.socket] = {}  # by the host's process
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Fork hosts, kill them and report their ends, until the engine has ended."""
        wake, wakes = socket.socketpair()
        for end in (wake, wakes):
            end.settimeout(0)
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._control, selectors.EVENT_READ, None)
        self._selector.register(wake, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is wake:
                    wake.recv(_MOST_BYTES)
                    self.report_ends()
                elif key.fileobj is not self._control:
                    self.kill(key.data)
                elif not self.fork_one():
                    return

    def fork_one(self) -> bool:
        """Fork a host if the engine asks for one. Return False if the engine has ended."""
        text, descriptors, _, _ = socket.recv_fds(self._control, _MOST_BYTES, _DESCRIPTORS)
        if not text:
            return False
        if len(descriptors) < _DESCRIPTORS:  # there is no room for them; the engine sees that the lifeline has ended
            for descriptor in descriptors:
                os.close(descriptor)
            return True
        channel, lifeline, blob = descriptors
        parent = os.getpid()
        try:
            process = os.fork()
        except OSError as error:
            with socket.socket(fileno=lifeline) as line:
                line.send(json.dumps({"failed": f"no process can be started: {error.strerror}"}).encode())
            process = -1
        if not process:
            self._become_host(parent, json.loads(text), channel, blob)
        for descriptor in (channel, blob):
            os.close(descriptor)
        if process > 0:
            self.adopt(process, socket.socket(fileno=lifeline))
        return True

    def adopt(self, process: int, lifeline: socket.socket) -> None:
        """Look after a host that has been forked."""
        self._lifelines[process] = lifeline
        self._selector.register(lifeline, selectors.EVENT_READ, process)

    def _become_host(self, parent: int, given: dict[str, Any], channel: int, blob: int) -> None:
        """Turn this process, which has just been forked, into a host, and never return."""
        code = 1
        try:
            limits.end_with_parent(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _keep_open(channel, blob)
            missing = limits.restrict(self._folders, given["memory"], gpu=given["gpu"])
            worker.serve(socket.socket(fileno=channel), blob, missing)
            code = 0
        finally:
            os._exit(code)

    def kill(self, process: int) -> None:
        """Kill a host whose lifeline the engine has cut, unless it has ended by itself just before."""
        line = self._lifelines.get(process)
        if line is not None:
            self._selector.unregister(line)
            os.kill(process, signal.SIGKILL)  # it hasn't been waited for, so the number is still its own

    def report_ends(self) -> None:
        """Write the exit status of each host that has ended to its lifeline."""
        while self._lifelines:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            line = self._lifelines.pop(process)
            with contextlib.suppress(KeyError):
                self._selector.unregister(line)
            with contextlib.suppress(OSError):
                line.send(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode())
            line.close()


def _keep_open(*descriptors: int) -> None:
    """Close all others but the standard streams."""
    start = 3
    for descriptor in sorted(descriptors):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def take_holes() -> None:
    """
    Take all free blocks of memory between those in use, for good, so that hosts get none of them.

    Such a block lies in a page that all hosts share. A host that wrote to it would get a copy of the whole page, often
    for a few bytes. Without them, a host's own data lie side by side in new pages. glibc only.
    """
    libc = ctypes.PyDLL(None)
    if sys.platform != "linux" or not hasattr(libc, "malloc_trim"):  # another system or C library
        return
    malloc, sbrk = libc.malloc, libc.sbrk
    malloc.restype = sbrk.restype = ctypes.c_void_p
    malloc.argtypes, sbrk.argtypes = [ctypes.c_size_t], [ctypes.c_ssize_t]
    end = sbrk(0)
    for size in _block_sizes():
        while (malloc(size - _HEADER) or end) < end:
            pass


def _block_sizes() -> Iterator[int]:
    """Yield sizes of blocks, the large ones first, because large blocks are divided for small ones."""
    size = _LARGEST
    while size > _FINE:
        yield size
        size //= 2
    yield from range(_FINE, _STEP, -_STEP)
