"""
The forerunner of an environment: imports what its models need, once, and forks the guards of their workers.

A part of `program.py`, which loads this file by its path, in any Python from 3.9.

Theory of operation. Importing MLflow takes seconds and hundreds of megabytes. Guards that are forked from here, and
their workers, share that memory, and start in milliseconds. The forerunner reads nothing that comes from a client. For
each guard, the engine sends what the guard is told, and five descriptors: channel, lifeline, blob, where it prints, and
the *leash*, whose other end tells the engine that the guard has ended. The answer is the guard's process number.

Only a process with one thread may be forked. If imports have left others, the engine is told, and starts each worker
as a process of its own.

Invariant: it ends when the engine does. The guards don't depend on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

#: What most models of an environment need, where it is installed. Models that scikit-learn saved with skops need all of
#: scikit-learn, whatever they are.
_MODULES = ("numpy", "pandas", "scipy.sparse", "sklearn.pipeline", "mlflow.pyfunc", "mlflow.sklearn", "skops.io")
_DESCRIPTORS = ("channel", "lifeline", "blob", "printed", "leash")  # in the order in which they arrive
_MOST_BYTES = 1 << 17
_O_ASYNC = 0o20000  # Linux: send SIGIO when something happens to the socket


def serve(given: dict[str, Any], guard: Callable[[dict[str, Any]], None]) -> None:
    """Import, and fork until the engine has ended. `guard` is what each child becomes; it never returns."""
    control = socket.socket(fileno=given["control"])
    if given["path"] is not None:
        sys.path[:] = given["path"]
    with _ending_with(control):
        answer = _imported()
    control.send(json.dumps(answer).encode())
    gc.collect()
    gc.freeze()  # so that a worker's collector doesn't write to the memory that all share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the guards
    while _fork_one(control, guard):
        pass
    os.chdir("/")
    shutil.rmtree(given["folder"], ignore_errors=True)
    os._exit(0)


@contextlib.contextmanager
def _ending_with(control: socket.socket) -> Iterator[None]:
    """End this process if the engine ends during the imports. The engine sends nothing meanwhile."""
    # The same stands in `forking.py` of the folder above, which this Python may not have.
    if sys.platform != "linux":
        yield
        return
    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(control, fcntl.F_SETFL, flags | _O_ASYNC)  # the default action of SIGIO is to end the process
    yield
    fcntl.fcntl(control, fcntl.F_SETFL, flags)


def _imported() -> dict[str, Any]:
    """Import what is there. Return the number of threads, or why no worker can be forked."""
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")  # pyarrow's allocator has a thread
    for name in _MODULES:
        with contextlib.suppress(Exception):  # a model that needs it will say so
            if importlib.util.find_spec(name.partition(".")[0]) is not None:
                importlib.import_module(name)
    try:
        return {"threads": len(os.listdir("/proc/self/task"))}
    except OSError as error:  # not on Linux
        return {"failed": str(error)}


def _fork_one(control: socket.socket, guard: Callable[[dict[str, Any]], None]) -> bool:
    """Fork a guard when the engine asks for one. Return False if the engine has ended."""
    text, descriptors, _, _ = socket.recv_fds(control, _MOST_BYTES, len(_DESCRIPTORS))
    if not text:
        return False
    try:
        process = os.fork()
    except OSError as error:
        control.send(json.dumps({"failed": error.strerror}).encode())
        process = -1
    if not process:
        try:
            control.close()
            guard(_become(json.loads(text), dict(zip(_DESCRIPTORS, descriptors))))
        finally:
            os._exit(1)
    for descriptor in descriptors:
        os.close(descriptor)
    if process > 0:
        control.send(json.dumps({"process": process}).encode())
    return True


def _become(given: dict[str, Any], descriptors: dict[str, int]) -> dict[str, Any]:
    """Make this process, which has just been forked, as if it had been started for this. Return what it is told."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(descriptors["printed"], stream)
    os.close(descriptors.pop("printed"))
    os.environ.update(given["environment"])
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]  # it keeps the forerunner's
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # or all workers would have the same random numbers
    return {**given, **descriptors}
