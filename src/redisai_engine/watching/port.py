"""
The port for Prometheus: a small HTTP server in threads of its own, so that a slow scraper holds up nobody.

Theory of operation. The event loop is asked for the totals, which takes it little time, at most once a second. They are
made into text here, once for all who ask within a second. A few clients are served at the same time, more are turned
away, and one that is slow is let go.

Invariant: whatever clients of this port do, the event loop is asked at most once a second.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

from redisai_engine.errors import StartError
from redisai_engine.watching.exposition import OPEN_METRICS, exposed
from redisai_engine.watching.totals import Totals

_AT_ONCE = 16
_PATIENCE_SECONDS = 10.0
_FRESH_SECONDS = 1.0

#: Returns the totals. Called in any thread. Raises TimeoutError if the event loop doesn't run.
Collect = Callable[[], Totals]


class MetricsPort:
    """Serves /metrics until it is closed. Raise StartError if the port can't be had."""

    def __init__(self, host: str, port: int, collect: Collect, *, triton: bool) -> None:
        latest = _Latest(collect, triton=triton)

        class Handler(_Handler):
            def do_GET(self) -> None:
                self.serve(latest)

        try:
            self._server = _server(host, port, Handler)
        except OSError as error:
            raise StartError(
                f"can't listen on {host}:{port}: {os.strerror(error.errno or 0)}; choose another --metrics-port"
            ) from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, in a thread: http.server takes half a second for it."""
        threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Latest:
    """The latest metrics as text, at most a second old."""

    def __init__(self, collect: Collect, *, triton: bool) -> None:
        self._collect = collect
        self._triton = triton
        self._lock = threading.Lock()
        self._totals: Totals = {}
        self._texts: dict[str, tuple[str, bytes]] = {}
        self._until = 0.0

    def text(self, accept: str) -> tuple[str, bytes]:
        """Return content type and text for the header Accept. Raise TimeoutError."""
        with self._lock:
            if monotonic() >= self._until:
                self._totals = self._collect()
                self._texts.clear()
                self._until = monotonic() + _FRESH_SECONDS
            wanted = OPEN_METRICS if OPEN_METRICS in accept else ""
            if wanted not in self._texts:
                self._texts[wanted] = exposed(self._totals, wanted, triton=self._triton)
            return self._texts[wanted]


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE_SECONDS

    def serve(self, latest: _Latest) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.answer(404, "text/plain", b"metrics are at /metrics\n")
            return
        try:
            content_type, text = latest.text(self.headers.get("Accept", ""))
        except TimeoutError:
            self.answer(503, "text/plain", b"the engine's event loop doesn't run\n")
            return
        self.answer(200, content_type, text)

    def answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: scrapes come every few seconds."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    places = threading.BoundedSemaphore(_AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread, if there aren't too many."""
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away or is slow is no problem of the engine's."""


def _server(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
    class Family(_Server):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    return Family((host, port), handler)
