"""The port for HTTP: requests reach models, connections are bounded, and the end is orderly."""

from __future__ import annotations

import contextlib
import gzip
import json
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.certificates import make_certificates
from support.http_calls import HttpServer, infer_json
from support.servers import Server
from support.waiting import accepts_connections, wait_until

PAIR = infer_json(a=("FP32", [1, 2], [1, 2]), b=("FP32", [1, 2], [3, 4]))
PATH = "/v2/models/http:tiny/infer"


def test_a_model_answers(http: HttpServer) -> None:
    reply = http.ask("POST", PATH, PAIR)

    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-deployment"] == "http:tiny"
    assert reply.json() == {
        "model_name": "http:tiny",
        "model_version": "1",
        "outputs": [
            {"name": "product", "datatype": "FP32", "shape": [1, 2], "data": [3.0, 8.0]},
            {"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [4.0, 6.0]},
        ],
    }


def test_one_connection_carries_many_requests(http: HttpServer) -> None:
    connection = http.connection()
    answers = {http.ask_on(connection, "POST", PATH, PAIR).body for _ in range(5)}
    connection.close()

    assert len(answers) == 1


def test_workers_share_the_port(new_http: Callable[..., HttpServer]) -> None:
    server = new_http("--workers", "2")
    client = server.engine.client()
    client.execute_command("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", tiny())

    assert {server.ask("POST", "/v2/models/m/infer", PAIR).status for _ in range(8)} == {200}


def tiny() -> bytes:
    from support.tiny_models import product_and_sum

    return product_and_sum("ONNX").blob


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_an_error_at_the_start(
    workers: str, new_engine: Callable[..., Server], http: HttpServer
) -> None:
    with pytest.raises(AssertionError, match=f"can't listen on 127.0.0.1:{http.port}: .*; choose another --http-port"):
        new_engine("--workers", workers, "--http-port", str(http.port))


def test_a_request_in_flight_is_answered_after_sigterm(new_http: Callable[..., HttpServer]) -> None:
    server = new_http()
    connection = server.connection()
    connection.connect()
    body = b'{"inputs": []}'
    head = b"POST /v2/models/none/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert connection.sock is not None
    connection.sock.sendall(head + body[:5])
    server.ask("GET", "/v2/health/live")  # by now, the engine has read the request's head
    server.engine.process.send_signal(signal.SIGTERM)
    refused_soon(server.port)
    connection.sock.sendall(body[5:])
    answer = b"".join(iter(lambda: connection.sock.recv(4096), b""))  # type: ignore[union-attr]
    connection.close()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer
    assert server.engine.process.wait(20) == 0


def refused_soon(port: int) -> None:
    wait_until(lambda: not accepts_connections(port), what="the end of listening")


def test_a_head_without_end_is_refused(http: HttpServer) -> None:
    with socket.create_connection((http.host, http.port)) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nx: ")
        answer = b""
        try:
            for _ in range(100):
                wire.sendall(b"y" * 4096)
            answer = wire.recv(4096)
        except OSError:  # the engine has closed while more was being sent
            answer = answer or b"HTTP/1.1 431"

    assert answer.startswith(b"HTTP/1.1 431")
    assert http.ask("GET", "/v2/health/live").status == 200


def test_a_body_that_is_too_large_is_refused(new_http: Callable[..., HttpServer]) -> None:
    server = new_http("--http-body-limit", "2000")

    reply = server.ask("POST", PATH, b" " * 5000)

    assert reply.status == 413
    assert "--http-body-limit" in reply.json()["error"]


def _answer(wire: socket.socket) -> bytes:
    """Return a response in JSON, which may arrive in parts."""
    answer = b""
    while not answer.endswith(b"}"):
        part = wire.recv(4096)
        assert part, answer
        answer += part
    return answer


@pytest.mark.parametrize("is_known", [True, False])
def test_bodies_that_are_being_received_are_bounded_together(
    new_http: Callable[..., HttpServer],
    is_known: bool,  # noqa: FBT001
) -> None:
    """Four that never end leave no room for a fifth, until one of them goes."""
    server = new_http("--http-body-limit", "200000")
    if is_known:
        server.ask("POST", PATH, PAIR)  # so that requests don't wait for Redis
    head = b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n"
    with contextlib.ExitStack() as stack:
        wires = [
            stack.enter_context(socket.create_connection((server.host, server.port), timeout=30)) for _ in range(5)
        ]
        for wire in wires[:4]:
            wire.sendall(head + b" " * 199_000)
        wires[4].sendall(head)
        with contextlib.suppress(OSError):
            for _ in range(199):
                wires[4].sendall(b" " * 1000)
        answers = []
        while not answers:
            ready, _, _ = select.select(wires, [], [], 30)
            assert ready
            answers = [_answer(wire) for wire in ready]
        assert all(answer.startswith(b"HTTP/1.1 503") and b"retry-after" in answer for answer in answers)
        assert b"may have 800000 together" in answers[0]
    wait_until(lambda: server.ask("POST", PATH, b" " * 190_000).status == 400, what="room for a body")


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", gzip.compress(b" " * 10_000_000), 413),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-9], 400),
        ("gzip", b"no", 400),
        ("br", b"{}", 415),
    ],
)
def test_a_compressed_body_is_bounded_and_whole(
    new_http: Callable[..., HttpServer], encoding: str, body: bytes, status: int
) -> None:
    server = new_http("--http-body-limit", "100000")

    assert server.ask("POST", PATH, body, content_encoding=encoding).status == status
    assert server.ask("POST", "/invocations/http:tiny", body, content_encoding=encoding).status == status


def test_requests_that_come_at_once_are_answered_in_order(http: HttpServer) -> None:
    """Hot routes and others on one connection, all sent before the first answer is read."""
    body = json.dumps(PAIR).encode()
    infer = b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    live = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    last = live.replace(b"host: x", b"host: x\r\nconnection: close")
    with socket.create_connection((http.host, http.port)) as wire:
        wire.sendall(infer + infer + live + infer + live + infer + last)
        answer = b"".join(iter(lambda: wire.recv(65536), b""))

    kinds = [b"live" if b'"live"' in part else b"infer" for part in answer.split(b"HTTP/1.1 200 OK")[1:]]
    assert kinds == [b"infer", b"infer", b"live", b"infer", b"live", b"infer", b"live"]


def test_a_client_may_wait_for_100_continue(http: HttpServer) -> None:
    body = json.dumps(PAIR).encode()
    http.ask("POST", PATH, PAIR)  # so that the user is known
    head = b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    with socket.create_connection((http.host, http.port)) as wire:
        wire.sendall(head % len(body))
        assert wire.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(body)
        assert wire.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_the_port_speaks_tls_with_the_listeners_certificate(
    new_http: Callable[..., HttpServer], tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path)
    server = new_http(*certificates.server.for_engine)

    assert replace(server, tls=certificates.context()).ask("GET", "/v2/health/live").json() == {"live": True}
    with pytest.raises(OSError, match=r".*"):
        server.ask("GET", "/v2/health/live")
