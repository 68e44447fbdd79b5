"""How many connections there may be over HTTP, and how slowly a client may send."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import socket
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from redisai_engine.fronts.closing import LEAST_RATE
from redisai_engine.fronts.http.bounds import HEAD_BYTES
from support.http_calls import HttpServer, http_engine, infer_json
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


INFER_BODY = json.dumps(infer_json(a=("FP32", [1, 2], [1, 2]), b=("FP32", [1, 2], [3, 4]))).encode()
INFER = b"POST /v2/models/http:tiny/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
    len(INFER_BODY),
    INFER_BODY,
)
LARGE = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nx: %b\r\n\r\n" % (b"y" * 40_000)
CHUNKED = b"POST /v2/models/none/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n"
READ_AT_ONCE = 100_000  # bytes: more than a head may have, and less than the event loop reads at once


def places(request: bytes) -> list[int]:
    """Return where a request can be cut: behind each kind of byte, before, in and behind its head."""
    head_end = request.index(b"\r\n\r\n") + 4
    found = {0, 1, 4, 5, 20, *range(head_end - 4, min(head_end + 3, len(request))), len(request) - 1}
    for mark in (b" HTTP", b"/1.1", b"\r\n", b"\n", b"host", b": ", b"x\r\n"):
        found.add(request.index(mark))
        found.add(request.index(mark) + 1)
    return sorted(found)


@contextlib.contextmanager
def asleep(server: HttpServer) -> Iterator[None]:
    """Keep the engine from reading, so that it then reads all at once."""
    server.engine.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.engine.process.send_signal(signal.SIGCONT)


def statuses(wire: socket.socket, count: int) -> list[bytes]:
    """Return the status codes of so many answers, fewer if the connection ends."""
    received, found = b"", []
    while len(found) < count and (part := wire.recv(1 << 16)):
        received += part
        found = re.findall(rb"HTTP/1\.1 (\d+)", received)
    return found


@pytest.mark.parametrize(
    ("request_", "status"),
    [(LIVE, b"200"), (INFER, b"200"), (CHUNKED, b"400"), (LARGE, b"200")],
    ids=["get", "post", "chunked", "large"],
)
def test_only_one_request_counts_as_a_head_wherever_a_read_ends(
    http: HttpServer, request_: bytes, status: bytes
) -> None:
    """Many requests arrive with a part of the next one, whose head is small."""
    assert http.ask("GET", "/v2").status == 200
    count = READ_AT_ONCE // len(request_) + 1
    for at in places(request_):
        with connect(http) as wire:
            with asleep(http):
                wire.sendall(request_ * count + request_[:at])
            wire.sendall(request_[at:] if at else request_)

            assert statuses(wire, count + 1) == [status] * (count + 1), at


@pytest.mark.parametrize("before", [b"", LIVE, INFER, LIVE * 100], ids=["nothing", "get", "post", "many"])
def test_a_head_without_an_end_is_refused_whatever_was_before_it(http: HttpServer, before: bytes) -> None:
    with connect(http) as wire:
        wire.sendall(before + BEGUN)
        sent, received = len(BEGUN), b""
        while b" 431 " not in received and sent < 2 * HEAD_BYTES:
            if not is_open(wire, 0.001):
                received += wire.recv(1 << 16)
                continue
            wire.sendall(b"y" * 1024)
            sent += 1024

    assert received.count(b"HTTP/1.1 200") == before.count(b"HTTP/1.1")
    assert sent > HEAD_BYTES
