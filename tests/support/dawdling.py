"""A TCP proxy in front of Redis that holds up what passes for a moment, each connection and direction by itself."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator

from support.proxies import RECEIVED, TIMEOUT_S, accepting
from support.servers import Server

_LONGEST_S = 0.003
_EVERY = 3  # what passes is held up one time in so many


class Dawdling:
    """Such a proxy. So two connections see what Redis does in different orders."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._has_ended = False

    def connected(self, client: socket.socket, upstream: socket.socket) -> None:
        if self._has_ended:  # the engine tries again
            return
        self._sockets += [client, upstream]
        for ends in ((client, upstream), (upstream, client)):
            thread = threading.Thread(target=self._pass, args=ends, daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        self._has_ended = True
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(RECEIVED):
                if not self._random.randrange(_EVERY):
                    time.sleep(self._random.uniform(0, _LONGEST_S))  # it is what the proxy is for
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def dawdling(server: Server, seed: int) -> Iterator[str]:
    """Run such a proxy in front of `server` for the duration of the block, which gets its address."""
    proxy = Dawdling(seed)
    with accepting(server, proxy.connected) as port:
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            proxy.end()
