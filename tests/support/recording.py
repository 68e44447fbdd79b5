"""A TCP proxy that records what clients send: the commands of every connection, in order and unchanged."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from redisai_engine.protocol.requests import RequestParser
from support.proxies import RECEIVED, accepting
from support.servers import Server


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
    recording = Recording(0)

    def connected(client: socket.socket, upstream: socket.socket) -> None:
        commands: list[list[bytes]] = []
        recording.connections.append(commands)
        threading.Thread(target=_pass_on, args=(client, upstream, (commands, recording.in_order)), daemon=True).start()
        threading.Thread(target=_pass_on, args=(upstream, client, ()), daemon=True).start()

    with accepting(server, connected) as recording.port:
        yield recording


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
