"""
The program of a worker, which runs one MLflow model: `python -I program.py '{...}'`.

It needs NumPy and the environment's MLflow, and nothing of this package, so that any Python from 3.9 with any MLflow
from 2.0 can run it.

Theory of operation. The process that the engine starts, or has forked by the environment's forerunner
(`forerunner.py`), is the *guard*. It forks the worker before anything of the model
is read, and then does nothing but wait: for the worker's end, whose exit status it reports on the lifeline, or for the
lifeline's end, by which the engine has it end the worker (SIGTERM, and SIGKILL a second later). In both cases it ends
all processes that the worker has left, and removes the worker's folder. The lifeline ends with the engine, too.

The worker loads the model from the archive in an open file, and answers one request after the other. What both sides
send is described in `frames.py` beside this folder: each frame is its length, the length of its JSON, the JSON
[message, [[type, shape], ...]] and the arrays' bytes.

Invariant: no process that a model has started outlives the guard, unless the model has ended the guard first.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import io
import json
import math
import os
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import time
import traceback
import zipfile
import zlib
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38  # from Linux's prctl.h
_CAPABILITIES = 0x20080522  # the version of capset's structures, from Linux's capability.h

_TERM_SECONDS = 1.0  # from SIGTERM to SIGKILL
_KILL_SECONDS = 5.0  # for all that the worker has left; who forks faster than it is killed survives

_HEAD = struct.Struct("<QI")  # bytes after the head, bytes of the JSON among them
_AT_ONCE = 1 << 16  # bytes that the first system call of a frame asks for
_DTYPES = ("<f4", "<f8", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "?", "O")  # by RedisAI's number; the last one is text
_STRING = 9
_CONTENDED_SECONDS, _REST_SECONDS = 500e-6, 0.1  # see `processors.py`
_ALONE = True  # the message of a run behind which the next one may come soon; that of any other is None
_MODEL = "model/"  # where the archive has the model's folder
_MOST_FILES = 100_000
_LONGEST_TEXT = 2000  # characters of an error
_MOST_KEPT, _LONGEST_KEPT = 256, 256  # texts of frames, bytes of one

_encode = json.JSONEncoder(separators=(",", ":")).encode
_is_linux = sys.platform == "linux"


def main() -> None:
    given = json.loads(sys.argv[1])
    if "control" in given:
        _restrict(guard=False)
        _beside("forerunner").serve(given, _be_guard)
    else:
        _be_guard(given)


def _be_guard(given: dict[str, Any]) -> None:
    """Fork the worker, watch over it, and end."""
    _restrict()
    os.chdir(given["folder"])
    guard = os.getpid()
    worker = os.fork()
    if not worker:
        code = 1
        try:
            _begin(guard, given)
            ModelWorker(given).serve()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    for name in ("channel", "blob"):
        os.close(given[name])
    _guard(worker, socket.socket(fileno=given["lifeline"]), given["folder"])
    os._exit(0)


# The guard


def _restrict(*, guard: bool = True) -> None:
    """Restrict this process and all that it starts, for good."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")  # Linux ends a worker before it ends the engine or Redis
    if _is_linux:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.capset(struct.pack("<Ii", _CAPABILITIES, 0), bytes(24))  # a process of root's could lift its limits
        libc.prctl(_PR_SET_CHILD_SUBREAPER, guard, 0, 0, 0)  # what loses its parent becomes a child of the guard


def _guard(worker: int, lifeline: socket.socket, folder: str) -> None:
    """Wait for the end of the worker or of the lifeline, and end everything."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wake, wakes = socket.socketpair()
    for end in (wake, wakes):
        end.settimeout(0)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    kill_at = None
    while (status := _reaped(worker)) is None:
        left = None if kill_at is None else max(kill_at - time.monotonic(), 0.0)
        ready, _, _ = select.select([wake, lifeline] if kill_at is None else [wake], [], [], left)
        if wake in ready:
            wake.recv(4096)
        if lifeline in ready:
            kill_at = time.monotonic() + _TERM_SECONDS
            _signal_group(worker, signal.SIGTERM)
        elif kill_at is not None and time.monotonic() >= kill_at:
            _signal_group(worker, signal.SIGKILL)
            kill_at += _KILL_SECONDS
    with contextlib.suppress(OSError):
        lifeline.send(json.dumps({"status": status}).encode())
    _kill_rest(worker)
    shutil.rmtree(folder, ignore_errors=True)


def _reaped(worker: int) -> int | None:
    """Wait for all children that have ended. Return the worker's exit status if it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == worker:
                found = os.waitstatus_to_exitcode(ended[1])
    return found


def _signal_group(worker: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker, number)  # before it has made its group: nothing to signal
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, number)  # it hasn't been waited for, so the number is still its own


def _kill_rest(worker: int) -> None:
    """Kill what the worker has left: its process group, and what has become a child of this process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    until = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < until:
        for child in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.005)
        except ChildProcessError:
            return


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            return [int(number) for number in children.read().split()]
    except OSError:  # not on Linux
        return []


# The worker


def _begin(guard: int, given: dict[str, Any]) -> None:
    """Make this process, which has just been forked, the worker."""
    os.setsid()
    for name in ("lifeline", "leash"):
        if name in given:
            os.close(given[name])
    if _is_linux:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != guard:
        os._exit(0)
    os.set_inheritable(given["channel"], False)  # noqa: FBT003
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    if given["memory"]:
        most = _status("VmData") + given["memory"]
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    if given["path"] is not None:
        sys.path[:] = given["path"]


def _status(name: str) -> int:
    """Return a figure of /proc/self/status in bytes."""
    try:
        with open("/proc/self/status") as lines:
            return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
    except OSError:
        return 0


class BadArchive(Exception):
    """The blob isn't the archive of a model. The text says why."""


class ModelWorker:
    """Loads the model of an archive, and answers requests until the engine closes the channel."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._channel = WorkerChannel(socket.socket(fileno=given["channel"]), given["awake"])
        self._plain: tuple[type[BaseException], ...] = (BadArchive,)  # errors whose text says all
        self._items: Any = iter(())  # what is left of the stream that is under way

    def serve(self) -> None:
        about, _ = self._channel.receive()
        try:
            model = self._loaded(about)
        except BaseException as error:
            traceback.print_exc()
            self._channel.send(self._failure("ModelLoadError", "the model can't be loaded", error))
            return
        self._channel.send({"python": sys.version.split()[0], "mlflow": model.version})
        message: Any = None
        with contextlib.suppress(EOFError):
            while True:
                message, arrays = self._channel.receive(stay_awake=message is _ALONE)
                is_stream = isinstance(message, dict)
                answer = self._item(model, message, arrays) if is_stream else self._answer(model, arrays)
                self._channel.send(*answer)

    def _loaded(self, about: dict[str, Any]) -> Any:
        """Load the model. NumPy and MLflow are imported here first, so a missing one is told, too."""
        forms, exact = _beside("forms"), _beside("exact")
        self._plain = (BadArchive, forms.Refused)
        parcels = _module("redisai_parcels", self._given["parcels"])
        model = forms.Model(_unpacked(self._given), about, parcels, exact)
        gc.collect()
        gc.freeze()  # what is loaded stays, and would be searched again and again during runs
        return model

    def _answer(self, model: Any, arrays: list[Any]) -> tuple[Any, list[Any]]:
        try:
            return None, model.run(arrays)
        except BaseException as error:  # SystemExit of a model is no reason to end
            traceback.print_exc()
            return self._failure("ModelRunError", "the model failed", error), []

    def _item(self, model: Any, message: dict[str, Any], arrays: list[Any]) -> tuple[Any, list[Any]]:
        """Begin a stream, go on with it or end it, and return its next item, or that there is none."""
        step = message["stream"]
        try:
            if step == "end":
                self._items.close()
            elif step == "begin":
                self._items = model.stream(arrays)
            for item in self._items:
                return None, item
            return {"ended": True}, []
        except BaseException as error:
            traceback.print_exc()
            return self._failure("ModelRunError", "the model failed", error), []

    def _failure(self, kind: str, what: str, error: BaseException) -> dict[str, Any]:
        if isinstance(error, self._plain):
            return {"error": [kind, f"ERR {error}"]}
        if isinstance(error, MemoryError):
            text = "out of memory: worker-memory limits what a worker takes"
        elif isinstance(error, ModuleNotFoundError):
            text = f"it needs the Python module {error.name}, which the environment of {sys.executable} lacks"
        else:
            line = next((line for line in str(error).splitlines() if line.strip()), "")
            text = f"{type(error).__name__}: {line}"
        return {"error": [kind, f"ERR {what}: {text}"[:_LONGEST_TEXT]]}


def _beside(name: str) -> Any:
    """Load a part of this program."""
    folder = os.path.dirname(os.path.abspath(__file__))
    return _module(f"redisai_{name}", os.path.join(folder, f"{name}.py"))


def _module(name: str, path: str) -> Any:
    """Load a module or package of the engine's by its path: this environment doesn't have it."""
    inside = [path] if os.path.isdir(path) else None
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(path, "__init__.py") if inside else path, submodule_search_locations=inside
    )
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[name] = module
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


# The archive


def _unpacked(given: dict[str, Any]) -> str:
    """Unpack the model's folder, and return where it is. Raise BadArchive for what isn't such an archive."""
    folder = os.path.join(given["folder"], "unpacked")
    with io.BufferedReader(Blob(given["blob"]), _AT_ONCE) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                _unpack(archive, folder, given["unpacked"])
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise BadArchive(f"the blob is not a whole ZIP archive: {error}") from error
    found = os.path.join(folder, "model")
    if not os.path.isfile(os.path.join(found, "MLmodel")):
        raise BadArchive("the archive has no model/MLmodel, so it is not that of an MLflow model")
    return found


def _unpack(archive: zipfile.ZipFile, folder: str, most: int) -> None:
    infos = [info for info in archive.infolist() if info.filename.startswith(_MODEL)]
    if len(infos) > _MOST_FILES:
        raise BadArchive(f"the archive has {len(infos)} files; at most {_MOST_FILES} are allowed")
    for info in infos:
        path = os.path.join(folder, _checked_name(info))
        if info.is_dir():
            os.makedirs(path, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with archive.open(info) as packed, open(path, "xb") as file:
            while piece := packed.read(1 << 20):
                most -= len(piece)
                if most < 0:
                    raise BadArchive("the archive is too large unpacked: more than ten times its size and 1 GiB")
                file.write(piece)


def _checked_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a file, relative and without anything that leads out of the folder. Raise BadArchive."""
    name = info.filename
    parts = name.rstrip("/").split("/")
    if "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise BadArchive(f"the archive has a file named {name[:100]!r}, which leads out of its folder")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadArchive(f"the archive has {name[:100]!r}, which is neither a file nor a folder")
    return name


class Blob(io.RawIOBase):
    """The archive in an open file, read without the offset that other workers of the same model share."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence], 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._descriptor, len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


# Frames


class WorkerChannel:
    """
    The worker's end of the socket pair.

    A sleeping core takes long to wake, and its caches forget. So for a client that asks again at once, the worker polls
    for the next request, up to `awake_seconds`, and yields the core to any other process that wants it.
    """

    def __init__(self, connection: socket.socket, awake_seconds: float = 0.0) -> None:
        self._socket = connection
        self._awake_seconds = awake_seconds if hasattr(os, "sched_yield") else 0.0
        self._sent_at = self._rests_until = 0.0
        self._is_close = False  # whether the latest request came so soon after the answer before it
        self._first = bytearray(_AT_ONCE)
        self._kept: dict[bytes, Any] = {}  # what short texts without a message say: most frames resemble earlier ones

    def send(self, message: Any, arrays: Any = ()) -> None:
        packed = [_packed(array) for array in arrays]
        text = _encode([message, [kind for kind, _ in packed]]).encode()
        blobs = [blob for _, blob in packed]
        size = len(text) + sum(len(blob) for blob in blobs)
        parts = [_HEAD.pack(size, len(text)), text, *blobs]
        if size < _AT_ONCE:
            self._socket.sendall(b"".join(parts))
        else:
            for part in parts:
                self._socket.sendall(part)
        self._sent_at = time.monotonic()

    def receive(self, *, stay_awake: bool = False) -> tuple[Any, list[Any]]:
        """Wait for a frame, which may come soon if it is to `stay_awake`. Raise EOFError if the engine has ended."""
        view = self._whole(self._polled() if stay_awake and self._is_close else 0)
        now = time.monotonic()
        self._is_close = now - self._sent_at < self._awake_seconds and now > self._rests_until
        text_end = _HEAD.size + _HEAD.unpack_from(view)[1]
        message, kinds = self._said(bytes(view[_HEAD.size : text_end]))
        arrays, start = [], text_end
        for kind in kinds:
            array, start = _unpacked_array(kind, view, start)
            arrays.append(array)
        return message, arrays

    def _said(self, text: bytes) -> Any:
        said = self._kept.get(text)
        if said is None:
            said = json.loads(text)
            if not isinstance(said[0], dict) and len(text) < _LONGEST_KEPT and len(self._kept) < _MOST_KEPT:
                self._kept[text] = said
        return said

    def _polled(self) -> int:
        """Return how many bytes have come into the buffer within `awake_seconds`, or until others need the core."""
        now = time.monotonic()
        until = now + self._awake_seconds
        while now < until:
            try:
                return self._read(memoryview(self._first), socket.MSG_DONTWAIT)
            except BlockingIOError:
                os.sched_yield()
            before, now = now, time.monotonic()
            if now - before > _CONTENDED_SECONDS:
                self._rests_until = now + _REST_SECONDS
                break
        return 0

    def _whole(self, got: int) -> memoryview:
        """Read a frame, of which so many bytes are in the buffer."""
        while got < _HEAD.size:
            got += self._read(memoryview(self._first)[got:])
        whole = bytearray(_HEAD.size + _HEAD.unpack_from(self._first)[0])
        whole[:got] = self._first[:got]
        view = memoryview(whole)
        while got < len(whole):
            got += self._read(view[got:])
        return view

    def _read(self, into: memoryview, flags: int = 0) -> int:
        try:
            count = self._socket.recv_into(into, 0, flags)
        except ConnectionError:
            raise EOFError from None
        if not count:
            raise EOFError
        return count


def _packed(array: Any) -> tuple[Any, Any]:
    """Return an array's type and shape, and its bytes."""
    if array.dtype.kind == "O":
        blob = b"".join([text.encode("utf-8", "surrogateescape") + b"\0" for text in array.ravel().tolist()])
        return (_STRING, array.shape, len(blob)), blob
    code = _DTYPES.index(array.dtype.newbyteorder("<").str.lstrip("|").replace("b1", "?"))
    return (code, array.shape), array.tobytes()


def _unpacked_array(kind: Any, view: memoryview, start: int) -> tuple[Any, int]:
    """Return an array that is a view, and where the next one begins."""
    numpy: Any = sys.modules["numpy"]  # which the model's forms have imported
    code, shape = kind[0], tuple(kind[1])
    if code == _STRING:
        end = start + kind[2]
        elements = bytes(view[start:end]).decode("utf-8", "surrogateescape").split("\0")[:-1]
        array = numpy.empty(len(elements), object)
        array[:] = elements
        return array.reshape(shape), end
    dtype = numpy.dtype(_DTYPES[code])
    end = start + dtype.itemsize * math.prod(shape)
    return numpy.frombuffer(view[start:end], dtype).reshape(shape), end


if __name__ == "__main__":
    main()
