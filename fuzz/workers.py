"""A target for what a worker sends: it runs a model's code, so anything may come."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

import numpy as np

from redisai_engine.errors import EngineError
from redisai_engine.execution.hosts.frames import FrameLimits
from redisai_engine.execution.hosts.process import Host, HostEnded
from redisai_engine.protocol import dtypes

_LIMITS = FrameLimits(1 << 20, 1 << 16)
_HEAD = struct.Struct("<QI")


class _Sent:
    """Starts no host: what one has sent is there already, and then it has ended."""

    limits = _LIMITS
    ends_slowly = False

    def __init__(self, data: bytes) -> None:
        self._data = data

    def enter(self, user: object) -> None:
        """Keep nothing."""

    def fork(self, channel: socket.socket, lifeline: socket.socket, file: int, *, memory: int, gpu: bool) -> None:
        channel.sendall(self._data)

    def say_missing(self, missing: Sequence[str]) -> None:
        """Say nothing."""


def frames(data: bytes) -> None:
    """A frame as it came, and one whose head is right: an answer, or an error that names what is wrong."""
    _ask(data)
    if data:
        text = int(data[0] / 255 * (len(data) - 1))
        _ask(_HEAD.pack(len(data) - 1, text) + data[1:])


def _ask(data: bytes) -> None:
    host = Host(_Sent(data), -1, memory=0, gpu=False)
    try:
        answer, outputs = host.ask(None)
    except (HostEnded, EngineError):
        return
    finally:
        host.close()
    assert answer is None or isinstance(answer, dict)
    for array in outputs:
        assert array is None or (isinstance(array, np.ndarray) and dtypes.by_numpy(array.dtype) is not None)
