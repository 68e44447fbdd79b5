"""How many connections there may be over HTTP, and how slowly a client may send."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from redisai_engine.fronts.http.bounds import LEAST_RATE
from support.http_calls import HttpServer, http_engine
from support.servers import Server
from support.waiting import free_port, wait_until

LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
BEGUN = b"GET / HTTP/1.1\r\nhost: x\r\nx: "
FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
MOST = 200  # connections that a process with 160 descriptors can't have
HEAD = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10000000\r\n\r\n"
PATIENCE_S = 1
LONG_S = 30.0


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=LONG_S)


def answer(wire: socket.socket) -> bytes:
    """Return a response in JSON, which may arrive in parts."""
    received = b""
    while not received.endswith(b"}"):
        part = wire.recv(4096)
        assert part, received
        received += part
    return received


def is_open(wire: socket.socket, seconds: float) -> bool:
    """Return whether the server neither answers nor closes for so long."""
    return not select.select([wire], [], [], seconds)[0]


def seconds_until_the_end(wire: socket.socket, piece: bytes, pause: float) -> float:
    """Send the same bytes again and again, and return after how many seconds the connection ends."""
    began = monotonic()
    with contextlib.suppress(OSError):
        while is_open(wire, pause) and monotonic() - began < LONG_S:
            wire.sendall(piece)
    return monotonic() - began


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    with http_engine(tmp_path_factory.mktemp("impatient"), "--http-timeout", str(PATIENCE_S)) as server:
        yield server


def test_one_connection_too_many_gets_503_until_others_leave(new_engine: Callable[..., Server]) -> None:
    port = free_port()
    server = HttpServer(port, new_engine("--http-port", str(port), descriptors="-n 160"))
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(connect(server)) for _ in range(MOST)]
        for wire in wires:
            with contextlib.suppress(OSError):  # it may be closed before the request is there
                wire.sendall(LIVE)
        answers = [wire.recv(len(FULL)) for wire in wires]

        refused = answers.index(FULL)
        assert refused > 5
        assert {answer[:12] for answer in answers[:refused]} == {b"HTTP/1.1 200"}
        assert answers[refused:] == [FULL] * (MOST - refused)
        assert server.engine.client().ping()
    wait_until(lambda: server.ask("GET", "/v2/health/live").status == 200, what="room for a connection")
    assert "Traceback" not in server.engine.log.read_text()


@pytest.mark.parametrize(
    ("sent", "piece"),
    [(b"", b""), (b"G", b""), (BEGUN, b""), (BEGUN, b"y"), (LIVE + BEGUN, b"y"), (b"POST /v2/models/m/infer", b"/")],
)
def test_a_head_that_comes_slowly_ends_the_connection(impatient: HttpServer, sent: bytes, piece: bytes) -> None:
    """A byte now and then doesn't help, whether or not the connection has had an answer."""
    with connect(impatient) as wire:
        wire.sendall(sent)
        if sent.startswith(LIVE):
            assert answer(wire).startswith(b"HTTP/1.1 200")

        assert PATIENCE_S * 0.9 <= seconds_until_the_end(wire, piece, 0.2) < LONG_S


@pytest.mark.parametrize("path", [b"/v2/models/m/infer", b"/invocations/m", b"/v2/repository/index", b"/nowhere"])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_body_that_comes_slowly_ends_the_connection(
    impatient: HttpServer,
    path: bytes,
    is_known: bool,  # noqa: FBT001
) -> None:
    """On every way through the front: past uvicorn for users that are known, and through it."""
    with connect(impatient) as wire:
        if is_known:
            impatient.ask("GET", "/v2")
        wire.sendall(HEAD % path)

        assert seconds_until_the_end(wire, b" ", 0.2) < LONG_S


def test_a_body_that_comes_fast_enough_is_waited_for(impatient: HttpServer) -> None:
    with connect(impatient) as wire:
        impatient.ask("GET", "/v2")
        wire.sendall(HEAD % b"/v2/models/m/infer")
        began = monotonic()
        while monotonic() - began < 4 * PATIENCE_S:
            assert is_open(wire, 0.1)
            wire.sendall(b" " * LEAST_RATE)


def test_a_body_that_begins_late_in_a_period_has_its_own_time(impatient: HttpServer) -> None:
    """Several requests on one connection, each of them slower than the rate, but short."""
    body = b'{"inputs": []}'
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with connect(impatient) as wire:
        for _ in range(4):
            wire.sendall(head)
            assert is_open(wire, 0.6 * PATIENCE_S)
            wire.sendall(body)
            assert answer(wire).startswith(b"HTTP/1.1 400")
