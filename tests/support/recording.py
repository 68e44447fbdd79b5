"""A TCP proxy that records what clients send: the commands of every connection, in order and unchanged."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from redisai_engine.protocol.requests import RequestParser
from support.servers import Server

TIMEOUT_S = 120.0
RECEIVED = 1 << 16


@dataclass
class Recording:
    """What passed through a proxy that listens on `port`: each connection's commands, and all of them in order."""

    port: int
    connections: list[list[list[bytes]]] = field(default_factory=list)
    in_order: list[list[bytes]] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"redisai://127.0.0.1:{self.port}/0"

    def commands(self) -> list[list[bytes]]:
        return [command for connection in self.connections for command in connection]


@contextlib.contextmanager
def recorded(server: Server) -> Iterator[Recording]:
    """Run a proxy between clients and `server` for the duration of the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    recording = Recording(listener.getsockname()[1])
    opened: list[socket.socket] = [listener]
    accepting = threading.Thread(target=_accept, args=(listener, server, recording, opened))
    accepting.start()
    try:
        yield recording
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # ends accept(), which close() alone does not
        accepting.join(TIMEOUT_S)
        for each in opened:
            each.close()


def _accept(listener: socket.socket, server: Server, recording: Recording, opened: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            upstream = socket.create_connection((server.host, server.port), timeout=TIMEOUT_S)
            client.settimeout(TIMEOUT_S)
            opened += (client, upstream)
            commands: list[list[bytes]] = []
            recording.connections.append(commands)
            threading.Thread(
                target=_pass_on, args=(client, upstream, (commands, recording.in_order)), daemon=True
            ).start()
            threading.Thread(target=_pass_on, args=(upstream, client, ()), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, notes: tuple[list[list[bytes]], ...]) -> None:
    """Pass bytes on until the source ends. Commands are recorded before they are sent, and so before any reply."""
    parser = RequestParser()
    with contextlib.suppress(OSError):
        while data := source.recv(RECEIVED):
            if notes:
                parser.feed(data)
                while (command := parser.next()) is not None:
                    for commands in notes:
                        commands.append(command)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
