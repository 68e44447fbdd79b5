"""
What the engine and a host send each other: a small JSON value and any number of arrays.

Theory of operation. A frame is its length, the length of the JSON, the JSON and the arrays' bytes. The JSON is a list
of a message and the arrays' types and shapes. Both sides take turns, so what has arrived never has bytes of two frames,
and a short frame takes one system call. Nothing is pickled, and nothing that arrives is trusted: whatever isn't a frame
raises FrameError.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from time import monotonic
from typing import Any

import numpy as np

from redisai_engine import errors
from redisai_engine.backends.base import Array
from redisai_engine.errors import EngineError, HostOutOfMemory, ModelRunError
from redisai_engine.processors import CONTENDED_SECONDS, REST_SECONDS
from redisai_engine.protocol import dtypes
from redisai_engine.protocol.frames import ReplyError, Value
from redisai_engine.protocol.tensor import string_array, string_blob

#: The message that asks for one run on made-up inputs.
TRIAL = "trial"

#: The message of a run behind which the next one may come soon. None is that of any other run.
ALONE = True

#: The message that makes a host one with seats for models. Descriptors follow.
SEATS = "seats"

_MARK = b"d"  # what goes with descriptors
_HEAD = struct.Struct("<QI")  # bytes after the head, bytes of the JSON among them
_AT_ONCE = 1 << 16  # bytes that the first system call of a frame asks for
_MOST = 1 << 40  # bytes; no machine has as much
_USUAL = {b"[null,": None, b"[true,": ALONE}  # how the JSON begins, and the message
_USUAL_LENGTH = 6
#: What reading whatever arrives may raise. RecursionError comes from JSON, OverflowError from NumPy.
_NOT_A_FRAME = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(MemoryError, RecursionError, OverflowError, struct.error),
)
_KEPT, _LONGEST_KEPT = 256, 256  # frames' types and shapes, bytes of one
_encode = json.JSONEncoder(separators=(",", ":")).encode


class FrameError(Exception):
    """What has arrived isn't a frame."""


class NotTaken(EOFError):
    """The other side has ended without having read all that was sent to it."""


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """How many bytes a frame may have, and its JSON."""

    frame: int
    text: int


#: Limits that no frame reaches which a machine could hold.
ANY_FRAME = FrameLimits(_MOST, _MOST)


class Channel:
    """
    One end of a socket pair. One thread uses it at a time. `limits` are for frames that arrive.

    `awake_seconds` is how long `stay_awake` waits at most.
    """

    def __init__(
        self, connection: socket.socket, limits: FrameLimits = ANY_FRAME, *, awake_seconds: float = 0.0
    ) -> None:
        self.awake_seconds = awake_seconds if hasattr(os, "sched_yield") else 0.0
        self._socket = connection
        self._limits = limits
        self._rests_until = 0.0
        self._first = bytearray(_AT_ONCE)
        self._got = 0  # bytes in it that `receive` begins with

    def send(self, message: Any, arrays: Sequence[Array | None] = ()) -> None:
        """Send a frame. None stands for an array that is left out. Raise OSError if the other side has ended."""
        kinds, blobs = [], []
        for array in arrays:
            kind, blob = _packed(array)
            kinds.append(kind)
            blobs.append(blob)
        is_usual = message is None or message is ALONE
        text = _usual_text(message, tuple(kinds)) if is_usual else _text(message, kinds)
        size = len(text) + sum([len(blob) for blob in blobs])
        parts = [_HEAD.pack(size, len(text)), text, *blobs]
        if size < _AT_ONCE:
            self._socket.sendall(b"".join(parts))
        else:
            for part in parts:
                self._socket.sendall(part)

    def stay_awake(self) -> None:
        """
        Wait until something has arrived, for a moment, without sleeping: a sleeping core takes long to wake.

        Return earlier if others need the core, and then at once for a while.
        """
        now = monotonic()
        until = now + self.awake_seconds if now > self._rests_until else now
        while now < until and not self.has_all() and not self._got:
            os.sched_yield()
            before, now = now, monotonic()
            if now - before > CONTENDED_SECONDS:
                self._rests_until = now + REST_SECONDS
                return

    def has_all(self) -> bool:
        """Return whether `receive` would return at once, with a frame. Never wait."""
        try:
            self._got = self._socket.recv_into(self._first, 0, socket.MSG_DONTWAIT)
        except OSError:  # nothing has arrived yet, or `receive` finds the end
            return False
        return self._got >= _HEAD.size and self._got >= _HEAD.size + _HEAD.unpack_from(self._first)[0]

    def send_descriptors(self, *descriptors: int) -> None:
        """Pass open descriptors instead of a frame. Raise OSError if the other side has ended."""
        socket.send_fds(self._socket, [_MARK], descriptors)

    def receive_descriptors(self, count: int) -> list[int]:
        """
        Wait for as many descriptors and return them.

        Raise EOFError if the other side has ended, and FrameError if something else has arrived.
        """
        mark, descriptors, _, _ = socket.recv_fds(self._socket, len(_MARK), count)
        if mark and len(descriptors) == count:
            return descriptors
        for descriptor in descriptors:
            os.close(descriptor)
        if mark:
            raise FrameError(f"{len(descriptors)} descriptors instead of {count}")
        raise EOFError

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, seconds: float | None = None) -> tuple[Any, list[Array | None]]:
        """
        Wait for a frame and return its message and its arrays.

        Raise EOFError if the other side has ended, TimeoutError after `seconds`, and FrameError.
        """
        until = None if seconds is None else monotonic() + seconds
        try:
            view = self._whole(until)
            text_end = _HEAD.size + _HEAD.unpack_from(view)[1]
            text = bytes(view[_HEAD.size : text_end])
            start = text[:_USUAL_LENGTH]
            message, kinds = (_USUAL[start], _usual_kinds(text)) if start in _USUAL else json.loads(text)
            return message, _unpacked(kinds, view[text_end:])
        except _NOT_A_FRAME as error:
            raise FrameError(f"{type(error).__name__}: {error}") from error

    def cut(self) -> None:
        """Have whoever waits for a frame get EOFError. May be called in any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def is_silent(self) -> bool:
        """Return whether nothing has arrived, the other side's end included."""
        return is_silent(self._socket)

    def close(self) -> None:
        self._socket.close()

    def _whole(self, until: float | None) -> memoryview:
        """Read one frame, its head included."""
        got, self._got = self._got or self._read(memoryview(self._first), until), 0
        while got < _HEAD.size:
            got += self._read(memoryview(self._first)[got:], until)
        length, text_length = _HEAD.unpack_from(self._first)
        size = _HEAD.size + length
        if size > self._limits.frame or size < got or text_length > min(length, self._limits.text):
            raise ValueError(f"a frame of {size} bytes, {text_length} of them text")
        whole = bytearray(size)
        whole[:got] = self._first[:got]
        view = memoryview(whole)
        while got < size:
            got += self._read(view[got:], until)
        return view

    def _read(self, into: memoryview, until: float | None) -> int:
        if until is not None:
            self._socket.settimeout(max(until - monotonic(), 1e-6))
        try:
            count = self._socket.recv_into(into)
        except ConnectionError:  # of a socket pair on Linux: the other side was closed with something unread
            raise NotTaken from None
        finally:
            if until is not None:
                self._socket.settimeout(None)
        if not count:
            raise EOFError
        return count


def is_silent(connection: socket.socket) -> bool:
    """Return whether nothing has arrived at a socket, the other side's end included."""
    try:
        connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _text(message: Any, kinds: Sequence[Any]) -> bytes:
    return _encode([message, kinds]).encode()


# Arrays without a message are the usual frame, and most have the same types and shapes as others before.


@lru_cache(_KEPT)
def _usual_text(message: Any, kinds: tuple[Any, ...]) -> bytes:
    return _text(message, kinds)


def _usual_kinds(text: bytes) -> Sequence[Any]:
    return _kept_kinds(text) if len(text) < _LONGEST_KEPT else json.loads(text)[1]


@lru_cache(_KEPT)
def _kept_kinds(text: bytes) -> Sequence[Any]:
    return json.loads(text)[1]  # type: ignore[no-any-return]


def _packed(array: Array | None) -> tuple[Any, Any]:
    """Return an array's type and shape, and its bytes. Raise ValueError for a type that RedisAI lacks."""
    if array is None:
        return None, b""
    dtype = dtypes.by_numpy(array.dtype)
    if dtype is None:
        raise ValueError(f"elements of type {array.dtype}")
    if dtype.is_string:
        blob = string_blob(array)
        return (dtype.code, array.shape, len(blob)), blob
    if array.nbytes < _AT_ONCE:
        return (dtype.code, array.shape), array.tobytes()
    return (dtype.code, array.shape), np.ascontiguousarray(array).data.cast("B")


def _unpacked(kinds: Sequence[Any], blobs: memoryview) -> list[Array | None]:
    """Return views of the arrays' bytes. Raise ValueError if there are more or fewer bytes than the shapes say."""
    arrays: list[Array | None] = []
    start = 0
    for kind in kinds:
        if kind is None:
            arrays.append(None)
            continue
        code, shape, *text = kind
        dtype = dtypes.DTYPES[code]
        size = text[0] if dtype.is_string else prod(shape) * dtype.size
        if start + size > len(blobs) or min(shape, default=0) < 0:
            raise ValueError(f"an array of {size} bytes, where {len(blobs) - start} are left")
        blob = blobs[start : start + size]
        arrays.append(_array(dtype, tuple(shape), blob))
        start += size
    if start != len(blobs):
        raise ValueError(f"{len(blobs) - start} bytes too many")
    return arrays


def _array(dtype: dtypes.DType, shape: tuple[int, ...], blob: memoryview) -> Array:
    return string_array(blob, shape) if dtype.is_string else np.frombuffer(blob, dtype.numpy).reshape(shape)


# Errors and replies of Redis, in messages

_KINDS: dict[str, type[EngineError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, EngineError)
}


def from_error(error: Exception) -> dict[str, Any]:
    """Return the answer to a request that failed."""
    if isinstance(error, EngineError):
        return {"error": [type(error).__name__, error.wire]}
    if isinstance(error, MemoryError):
        return from_error(HostOutOfMemory())
    return {"error": [ModelRunError.__name__, f"ERR {type(error).__name__}: {error}"]}


def to_error(kind: str, text: str) -> EngineError:
    """Return the error of such an answer. One of an unknown kind is a ModelRunError."""
    known = _KINDS.get(kind, ModelRunError)
    error = known.__new__(known)
    EngineError.__init__(error, text)  # some kinds make their text of other arguments
    return error


def from_value(value: Value) -> Any:
    """Return a reply of Redis as JSON."""
    if isinstance(value, bytes):
        return {"bytes": from_bytes(value)}
    if isinstance(value, ReplyError):
        return {"error": value.text}
    return [from_value(element) for element in value] if isinstance(value, list) else value


def to_value(told: Any) -> Value:
    """Return the reply of Redis that JSON stands for."""
    if isinstance(told, list):
        return [to_value(element) for element in told]
    if isinstance(told, dict):
        return to_bytes(told["bytes"]) if "bytes" in told else ReplyError(told["error"])
    return told  # type: ignore[no-any-return]


def from_bytes(raw: bytes) -> str:
    return raw.decode("latin-1")


def to_bytes(told: str) -> bytes:
    return told.encode("latin-1")
