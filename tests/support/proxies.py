"""What TCP proxies of tests have in common: they accept clients, and open a connection to the server for each."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from support.servers import Server

TIMEOUT_S = 120.0
RECEIVED = 1 << 16


@contextlib.contextmanager
def accepting(server: Server, connected: Callable[[socket.socket, socket.socket], None]) -> Iterator[int]:
    """Listen on the port that this yields. `connected` gets each client's socket and one that leads to the server."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = [listener]
    thread = threading.Thread(target=_accept, args=(listener, server, opened, connected))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # ends accept(), which close() alone does not
        thread.join(TIMEOUT_S)
        for each in opened:
            each.close()


def _accept(
    listener: socket.socket,
    server: Server,
    opened: list[socket.socket],
    connected: Callable[[socket.socket, socket.socket], None],
) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            try:
                upstream = socket.create_connection((server.host, server.port), timeout=TIMEOUT_S)
            except OSError:  # the server is down for now
                client.close()
                continue
            client.settimeout(TIMEOUT_S)
            opened += (client, upstream)
            for each in (client, upstream):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected(client, upstream)
