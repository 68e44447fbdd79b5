"""Clients that don't take their answer: on every way through the front, in every form, in the clear and by TLS."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic

import psutil
import pytest
from onnx import TensorProto, helper

from redisai_engine.fronts.http.untaken import Debt
from support.certificates import make_certificates
from support.http_calls import HttpServer, http_engine
from support.servers import Server
from support.tiny_models import onnx_model, passing
from support.waiting import free_port, wait_until

PATIENCE_S = 1
LONG_S = 30.0
RECEIVE_BYTES = 4096  # of the client's kernel, so that it takes nothing by itself
NUMBERS = 3_000_000  # of an answer, which is more than the kernel keeps of it
BINARY = [{"name": "y", "parameters": {"binary_data": True}}]
TENSOR = {"name": "n", "datatype": "INT64", "shape": [1]}


def post(path: str, body: object, *, version: str = "1.1", headers: str = "") -> bytes:
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/{version}\r\nhost: x\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(text)}\r\n\r\n".encode() + text


def infer(numbers: int = NUMBERS, *, path: str = "/v2/models/zeros/infer", binary: bool = False, **more: str) -> bytes:
    outputs = {"outputs": BINARY} if binary else {}
    return post(path, {"inputs": [{**TENSOR, "data": [numbers]}], **outputs}, **more)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


LATER = "/v2/models/zeros/infer?not=hot"  # takes uvicorn's way
REQUESTS = {
    "json": infer(),
    "binary": infer(binary=True),
    "scoring": post("/invocations/same", {"inputs": [0.123456789] * 600_000}),
    "json by uvicorn": infer(path=LATER),
    "binary by uvicorn": infer(path=LATER, binary=True),
    "the last of a connection": infer(binary=True, headers="connection: close\r\n"),
    "HTTP/1.0": infer(binary=True, version="1.0"),
    "pipelined": infer(binary=True) * 3,
    "pipelined behind small ones": get("/v2") * 20 + infer(binary=True) + get("/v2") * 20,
    "many small ones": get("/live/static/live.js") * 1000,
    "many predictions": infer(20_000, binary=True) * 200,
}


@pytest.fixture(scope="module", params=["clear", "TLS"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    folder = tmp_path_factory.mktemp("untaken")
    options: tuple[str, ...] = ("--http-timeout", str(PATIENCE_S))
    tls = None
    if request.param == "TLS":
        certificates = make_certificates(folder)
        options, tls = (*options, *certificates.server.for_engine), certificates.context()
    with http_engine(folder, *options) as plain:
        server = replace(plain, tls=tls)
        client = server.engine.client(**client_options(server))
        client.execute_command("AI.MODELSTORE", "zeros", "ONNX", "CPU", "BLOB", zeros())
        client.execute_command("AI.MODELSTORE", "same", "ONNX", "CPU", "BLOB", passing("ONNX", "float64").blob)
        assert server.ask("GET", "/v2").status == 200  # from here on the user is known
        yield server


def client_options(server: HttpServer) -> dict[str, object]:
    return {} if server.tls is None else {"ssl": True, "ssl_cert_reqs": "none"}


def zeros() -> bytes:
    """Build an ONNX model that returns `n` zeros: a small request has an answer of any size."""
    node = helper.make_node("ConstantOfShape", ["n"], ["y"])
    return onnx_model([node], {"n": (TensorProto.INT64, (1,))}, {"y": (TensorProto.FLOAT, ("N",))})


@contextlib.contextmanager
def asked(server: HttpServer, sent: bytes, *, receive: int = RECEIVE_BYTES) -> Iterator[socket.socket]:
    """Connect, keep little of what comes, and send as much as the server takes."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    raw.settimeout(LONG_S)
    raw.connect((server.host, server.port))
    wire: socket.socket = raw
    if server.tls is not None:
        wire = server.tls.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)
    with wire:
        wire.sendall(sent)
        wait_until(lambda: is_readable(wire), what="what the server sends first")
        yield wire


def is_readable(wire: socket.socket) -> bool:
    return bool(select.select([wire], [], [], 0)[0])


def port_of(wire: socket.socket) -> int:
    return int(wire.getsockname()[1])


def is_connected(server: HttpServer, own: int) -> bool:
    """Return whether the engine still has the other end of a client's port."""
    connections = psutil.Process(server.engine.process.pid).net_connections(kind="tcp")
    return any(each.raddr and each.raddr.port == own for each in connections)


def take_a_byte(wire: socket.socket) -> None:
    with contextlib.suppress(OSError):
        wire.recv(1)


def take_all(wire: socket.socket) -> None:
    while wire.recv(1 << 20):
        pass


@pytest.mark.parametrize("taking", [None, take_a_byte], ids=["nothing", "a byte now and then"])
def test_clients_that_take_no_answer_lose_their_connections(
    server: HttpServer, taking: Callable[[socket.socket], None] | None
) -> None:
    with contextlib.ExitStack() as stack:
        wires = {what: stack.enter_context(asked(server, sent)) for what, sent in REQUESTS.items()}

        def left() -> list[str]:
            if taking is not None:
                for wire in wires.values():
                    taking(wire)
            return [what for what, wire in wires.items() if is_connected(server, port_of(wire))]

        with contextlib.suppress(AssertionError):
            wait_until(lambda: not left(), what="the end of the connections")
        assert left() == []
        if taking is None:
            for wire in wires.values():
                with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):  # not what looks like an answer's end
                    take_all(wire)
    assert "Traceback" not in server.engine.log.read_text()


@pytest.mark.parametrize("what", ["pipelined behind small ones", "many small ones", "many predictions"])
def test_a_client_that_leaves_while_many_requests_wait_is_no_error(server: HttpServer, what: str) -> None:
    with asked(server, REQUESTS[what]) as wire:
        own = port_of(wire)
        assert is_connected(server, own)

    wait_until(lambda: not is_connected(server, own), what="the end of the connection")
    assert server.ask("GET", "/v2").status == 200
    assert "Traceback" not in server.engine.log.read_text()


def test_a_page_that_takes_no_events_loses_its_connection(server: HttpServer) -> None:
    client = server.engine.client(**client_options(server))
    for number in range(30):  # so that an event is larger than what the client's kernel takes
        client.execute_command("AI.MODELSTORE", f"zeros:{number}", "ONNX", "CPU", "BLOB", zeros())
        assert (
            server.ask("POST", f"/v2/models/zeros:{number}/infer", {"inputs": [{**TENSOR, "data": [1]}]}).status == 200
        )
    with asked(server, get("/live/events")) as wire:
        wait_until(lambda: not is_connected(server, port_of(wire)), what="the end of the connection")
    assert "Traceback" not in server.engine.log.read_text()


def test_the_memory_of_answers_that_nobody_takes_is_given_back(server: HttpServer) -> None:
    engine = psutil.Process(server.engine.process.pid)
    before = engine.memory_info().rss
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(asked(server, infer())) for _ in range(24)]
        half = 24 * NUMBERS * 4 // 2
        wait_until(
            lambda: not any(is_connected(server, port_of(wire)) for wire in wires), what="the end of the connections"
        )
        wait_until(lambda: engine.memory_info().rss - before < half, what="the memory")
    assert (
        "closed clients over HTTP that didn't take their answers (see --http-timeout): " in server.engine.complaints()
    )


def test_a_client_that_takes_its_answer_fast_enough_gets_all_of_it(server: HttpServer) -> None:
    sent = infer(1_500_000, binary=True, headers="connection: close\r\n")
    with asked(server, sent, receive=1 << 16) as wire:
        began, taken = monotonic(), 0

        def is_complete() -> bool:
            nonlocal taken
            taken += len(wire.recv(20_000))
            return taken >= 6_000_000

        wait_until(is_complete, what="the answer")
        assert monotonic() - began > 3 * PATIENCE_S
        take_all(wire)


def test_clients_that_take_no_answer_make_room_for_others(new_engine: Callable[..., Server]) -> None:
    """As many as there may be, after which the next one is refused for a while."""
    port = free_port()
    options = ("--http-port", str(port), "--http-timeout", str(PATIENCE_S))
    server = HttpServer(port, new_engine(*options, descriptors="-n 160"))
    server.engine.client().execute_command("AI.MODELSTORE", "zeros", "ONNX", "CPU", "BLOB", zeros())

    def status() -> int:
        try:
            return server.ask("GET", "/v2/health/live").status
        except OSError:  # it may be refused before the request is there
            return 503

    with contextlib.ExitStack() as stack:
        while status() == 200:
            stack.enter_context(asked(server, infer(1_000_000)))
        wait_until(lambda: status() == 200, what="room for a connection")
    assert "Traceback" not in server.engine.log.read_text()


@pytest.mark.parametrize(
    ("before", "now", "is_neglected"),
    [
        (Debt(1000, 9000), Debt(1000, 9000), True),
        (Debt(1000, 9000), Debt(1499, 9000), True),
        (Debt(1000, 9000), Debt(1500, 9000), False),
        (Debt(1000, 1100), Debt(1099, 1100), True),  # however small the answer is
        (Debt(1000, 1100), Debt(1100, 1200), False),  # that answer is taken; this is another one
        (Debt(-9000, 0), Debt(-8501, 0), True),  # of a kernel that doesn't count
        (Debt(-9000, 0), Debt(-8500, 0), False),
    ],
)
def test_who_has_the_same_bytes_to_take_for_long_is_too_slow(
    before: Debt,
    now: Debt,
    is_neglected: bool,  # noqa: FBT001
) -> None:
    assert before.is_neglected(now, 500) == is_neglected
