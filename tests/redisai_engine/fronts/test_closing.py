"""Connections over TLS that are being closed: how long clients may take what is left for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import cast

import pytest
import uvloop
from onnx import TensorProto, helper

from redisai_engine.fronts import handshakes
from redisai_engine.fronts.closing import Closing
from redisai_engine.fronts.handshakes import Handshakes
from support.certificates import Certificates, make_certificates
from support.http_calls import start_http_engine
from support.servers import Server
from support.tiny_models import onnx_model
from support.waiting import wait_until

ANSWER = b"x" * 8_000_000  # more than both kernels keep
PATIENCE_S = 0.3
LONG_S = 30.0

pause = threading.Event().wait  # of a client that is slow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("closing"))


class Answering(asyncio.Protocol):
    """Writes an answer and closes. `ended` gets those that are over."""

    def __init__(self, answer: bytes, live: set[Answering]) -> None:
        self._answer = answer
        self._live = live
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's isn't one by its classes
        self._live.add(self)
        self.transport.write(self._answer)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._live.discard(self)


class Serving:
    """A listener in a thread of its own. `live` are the connections that have not ended."""

    def __init__(self, context: ssl.SSLContext, answer: bytes) -> None:
        self.live: set[Answering] = set()
        self._loop = uvloop.new_event_loop()
        self._bound = socket.create_server(("127.0.0.1", 0))
        self.port = self._bound.getsockname()[1]
        self._handshakes = Handshakes(self._loop, context, lambda: Answering(answer, self.live), lambda: False)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Serving:
        self._thread.start()
        return self

    def _serve(self) -> None:
        self._handshakes.accept_on([self._bound])
        closing = Closing(self._loop, lambda: [each.transport for each in self.live], PATIENCE_S)
        self._loop.run_forever()
        closing.end()
        self._handshakes.close()

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._bound.close()
        self._loop.close()


@contextlib.contextmanager
def client(port: int, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """Connect, and keep little of what comes in the kernel."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        raw.settimeout(LONG_S)
        raw.connect(("127.0.0.1", port))
        with context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as wire:
            yield wire


def zeros() -> bytes:
    """Build a model that returns as many bytes as ANSWER has."""
    node = helper.make_node("ConstantOfShape", ["n"], ["y"])
    return onnx_model([node], {"n": (TensorProto.INT64, (1,))}, {"y": (TensorProto.FLOAT, ("N",))})


BODY = json.dumps(
    {
        "inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [len(ANSWER) // 4]}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
).encode()
INFER = (
    b"POST /v2/models/zeros/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY)
    + BODY
)


def take_slowly(wire: ssl.SSLSocket, seconds: float, rest_s: float = 0.02) -> int:
    """Take a little now and then for that long, and then the rest. Return how many bytes came."""
    taken, until = 0, monotonic() + seconds
    while part := wire.recv(16384):
        taken += len(part)
        if monotonic() < until:
            pause(rest_s)
    return taken


def server_context(files: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server.certificate, files.server.key)
    return context


def test_an_answer_that_is_being_taken_goes_on(files: Certificates) -> None:
    """Through several looks, in each of which something was taken."""
    with Serving(server_context(files), ANSWER) as serving, client(serving.port, files.context()) as wire:
        assert take_slowly(wire, 5 * PATIENCE_S) == len(ANSWER)
        wire.unwrap()
        wait_until(lambda: not serving.live, what="the end of the connection")


def test_the_event_loops_own_limit_would_cut_it_off(files: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts from the call of close(), so it is put where it is never reached."""
    assert handshakes.FAREWELL_SECONDS > 24 * 3600
    monkeypatch.setattr(handshakes, "FAREWELL_SECONDS", PATIENCE_S)

    taken = 0
    with (
        Serving(server_context(files), ANSWER) as serving,
        client(serving.port, files.context()) as wire,
        contextlib.suppress(ssl.SSLEOFError, ConnectionError),  # which Python 3.11's first releases don't raise
    ):
        taken = take_slowly(wire, 5 * PATIENCE_S)

    assert taken < len(ANSWER)


@pytest.mark.parametrize("answer", [ANSWER, b"small"], ids=["an answer that nobody takes", "no farewell"])
def test_a_client_that_takes_nothing_more_is_let_go(files: Certificates, answer: bytes) -> None:
    with Serving(server_context(files), answer) as serving, client(serving.port, files.context()) as wire:
        assert wire.recv(1) == answer[:1]
        wait_until(lambda: not serving.live, timeout_s=10.0, what="the end of the connection")


class TestEngine:
    """The whole engine, with answers that are taken for longer than the event loop's own limit of 30 s."""

    @pytest.mark.slow
    @pytest.mark.parametrize("speaks", ["RESP", "HTTP"])
    def test_who_takes_an_answer_for_longer_gets_all_of_it(
        self, files: Certificates, new_engine: Callable[..., Server], tmp_path: object, speaks: str
    ) -> None:
        http = start_http_engine(tmp_path, *files.server.for_engine, start=new_engine)  # type: ignore[arg-type]
        redis = http.engine.client(ssl=True, ssl_cert_reqs="none")
        redis.set("large", ANSWER)
        redis.execute_command("AI.MODELSTORE", "zeros", "ONNX", "CPU", "BLOB", zeros())
        port, sent = (http.engine.port, b"GET large\r\nQUIT\r\n") if speaks == "RESP" else (http.port, INFER)
        with client(port, files.context()) as wire:
            wire.sendall(sent)

            assert take_slowly(wire, 33.0, rest_s=0.1) > len(ANSWER)
