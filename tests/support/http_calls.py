"""HTTP as a client without a library speaks it, and engines that listen for it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.servers import Server, start_engine
from support.waiting import free_port


@dataclass(frozen=True)
class HttpReply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class HttpServer:
    """An engine's HTTP port, and the engine. `credentials` are sent with every request."""

    port: int
    engine: Server
    host: str = "127.0.0.1"
    credentials: str = ""
    tls: ssl.SSLContext | None = None

    def as_user(self, credentials: str) -> HttpServer:
        return replace(self, credentials=credentials)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> HttpReply:
        """Send a request on a connection of its own. A body that isn't bytes is sent as JSON."""
        with contextlib.closing(self.connection()) as connection:
            return self.ask_on(connection, method, path, body, **headers)

    def connection(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection(self.host, self.port, timeout=60, context=self.tls)
        return http.client.HTTPConnection(self.host, self.port, timeout=60)

    def ask_on(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str
    ) -> HttpReply:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        if self.credentials:
            sent.setdefault("authorization", "Basic " + base64.b64encode(self.credentials.encode()).decode())
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return HttpReply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def start_http_engine(folder: Path, *arguments: str, start: Callable[..., Server] | None = None) -> HttpServer:
    """Start an engine that serves HTTP on a free port."""
    port = free_port()
    options = (*arguments, "--http-port", str(port))
    return HttpServer(port, start_engine(folder, *options) if start is None else start(*options))


@contextlib.contextmanager
def http_engine(folder: Path, *arguments: str) -> Iterator[HttpServer]:
    server = start_http_engine(folder, *arguments)
    try:
        yield server
    finally:
        server.engine.stop()


def infer_json(**inputs: tuple[str, list[int], Any]) -> dict[str, Any]:
    """Return the body of a V2 request with these inputs: datatype, shape and data by name."""
    return {
        "inputs": [
            {"name": name, "datatype": datatype, "shape": shape, "data": data}
            for name, (datatype, shape, data) in inputs.items()
        ]
    }
