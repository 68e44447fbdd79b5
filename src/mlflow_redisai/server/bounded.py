"""
redis-py's connections, with every wait cut short at the deadline of the call (`mlflow_redisai.deadline`).

redis-py limits the time of each read and write on the socket, so a server that sends a byte now and then holds a call
for ever. Here the call's deadline is looked at before each of them.

Looking up a host's name is left to the operating system, and to its limits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from typing import Any

from mlflow_redisai import deadline
from mlflow_redisai.errors import CallTimedOut

_NEARLY = 0.9


class BoundedSocket:
    """
    A socket whose reads and writes raise CallTimedOut at the call's deadline. All else is the socket's own.

    Setting a socket's timeout is a system call, which a prediction doesn't make: what was set for an earlier one stays
    if it is a little less than what is left. If it turns out to be too little, the operation is repeated.
    """

    __slots__ = ("_set", "_socket", "_usual")

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._usual: float | None = socket.gettimeout()
        self._set = self._usual

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        self._usual = self._set = seconds
        self._socket.settimeout(seconds)

    def recv_into(self, buffer: Any, *more: Any) -> int:
        received: int = self._within(self._socket.recv_into, buffer, *more)
        return received

    def recv(self, *arguments: Any) -> Any:
        return self._within(self._socket.recv, *arguments)

    def sendall(self, data: Any) -> None:
        sent = self._within(self._socket.send, data)
        # TLS's own sendall would give each part the whole time again.
        while sent < len(data):
            sent += self._within(self._socket.send, memoryview(data)[sent:])

    def _within(self, work: Callable[..., Any], *arguments: Any) -> Any:
        limit = deadline.current()
        if limit is None:
            self._allow(self._usual)
            return work(*arguments)
        while True:
            left = limit.end - monotonic()
            usual, now = self._usual, self._set
            if usual is not None and usual <= left:
                if now != usual:
                    self._allow(usual)
            elif now is None or not _NEARLY * left <= now <= left:
                self._allow(limit.left())
            try:
                return work(*arguments)
            except TimeoutError:
                limit.left()
                if self._set == usual:
                    raise

    def _allow(self, seconds: float | None) -> None:
        if self._set != seconds:
            self._socket.settimeout(seconds)
            self._set = seconds


class _Bounded:
    """What is put before a connection class of redis-py."""

    _limit: float | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Newer versions of redis-py have attributes of their own for it.
        connect, read = options.get("socket_connect_timeout"), options.get("socket_timeout")
        self._limit = read if connect is None else connect

    @property
    def socket_connect_timeout(self) -> float | None:
        try:
            return deadline.at_most(self._limit)
        except CallTimedOut:  # redis-py closes its socket only after errors that it knows
            return 0.001

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        self._limit = seconds

    def _connect(self) -> BoundedSocket:
        return BoundedSocket(super()._connect())  # type: ignore[misc]

    def _wrap_socket_with_ssl(self, socket: Any) -> Any:
        usual = socket.gettimeout()
        socket.settimeout(self.socket_connect_timeout)  # for the whole handshake
        wrapped = super()._wrap_socket_with_ssl(socket)  # type: ignore[misc]
        wrapped.settimeout(usual)
        return wrapped


@lru_cache
def _bounded_class(kind: type) -> type:
    return type(f"Bounded{kind.__name__}", (_Bounded, kind), {})


def bounded(client: Any) -> Any:
    """Return the same client of redis-py, whose connections look at the deadline from now on."""
    pool = client.connection_pool
    if not issubclass(pool.connection_class, _Bounded):
        pool.connection_class = _bounded_class(pool.connection_class)
    return client
