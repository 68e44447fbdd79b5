"""Requests whose heads were seen before skip the parser, and are answered as if they hadn't."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest
from onnx import TensorProto, helper

from redisai_engine.fronts.http.heads import Heads
from redisai_engine.fronts.http.hot import find
from support.http_calls import HttpServer, infer_json
from support.tiny_models import onnx_model

PATH = "/v2/models/http:tiny/infer"
BODY = json.dumps(infer_json(a=("FP32", [1, 2], [1, 2]), b=("FP32", [1, 2], [3, 4]))).encode()
OTHER = BODY.replace(b"3, 4", b"5, 4")
HEAD = b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY)
TIMES = re.compile(rb"server-timing: [^\r]*\r\n")


def request(body: bytes = BODY, head: bytes = HEAD) -> bytes:
    return head + body


class Line:
    """A connection, and what has arrived on it beyond the last answer."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._received = b""
        self.sendall = connection.sendall

    def answer(self) -> bytes:
        """Receive one answer, without its times."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, _ = self._received.partition(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        assert found is not None
        size = len(head) + 4 + int(found[1])
        while len(self._received) < size:
            self._receive()
        whole, self._received = self._received[:size], self._received[size:]
        return TIMES.sub(b"", whole)

    def _receive(self) -> None:
        data = self._connection.recv(65536)
        assert data
        self._received += data


@pytest.fixture
def wire(http: HttpServer) -> Iterator[Line]:
    """A connection on which the head has been learned."""
    http.ask("POST", PATH, json.loads(BODY))  # so that the user is known
    with socket.create_connection((http.host, http.port), timeout=30) as connection:
        line = Line(connection)
        for _ in range(2):
            line.sendall(request())
            line.answer()
        yield line


def values(reply: bytes) -> list[float]:
    return [number for output in json.loads(reply.partition(b"\r\n\r\n")[2])["outputs"] for number in output["data"]]


def test_a_request_that_is_split_anywhere_gets_the_same_answer(wire: Line) -> None:
    wire.sendall(request())
    whole = wire.answer()

    for at in range(1, len(request())):
        wire.sendall(request()[:at])
        wire.sendall(request()[at:])
        assert wire.answer() == whole
        wire.sendall(request(OTHER))
        assert values(wire.answer()) == [5.0, 8.0, 6.0, 6.0]


def test_bodies_of_one_head_are_told_apart(wire: Line) -> None:
    for body, expected in ((BODY, [3.0, 8.0, 4.0, 6.0]), (OTHER, [5.0, 8.0, 6.0, 6.0])) * 2:
        wire.sendall(request(body))
        assert values(wire.answer()) == expected


def test_requests_with_known_heads_may_be_sent_before_answers_are_read(wire: Line) -> None:
    for count in (2, 5, 40):
        bodies = [BODY, OTHER] * count
        wire.sendall(b"".join(map(request, bodies)))
        assert [values(wire.answer())[0] for _ in bodies] == [3.0, 5.0] * count
        for body in bodies:  # each in a write of its own
            wire.sendall(request(body))
        assert [values(wire.answer())[0] for _ in bodies] == [3.0, 5.0] * count


def test_a_known_head_whose_body_goes_on_in_the_next_message(wire: Line) -> None:
    wire.sendall(request() + request()[:30])
    assert values(wire.answer())[0] == 3.0
    wire.sendall(request()[30:] + request(OTHER))

    assert [values(wire.answer())[0] for _ in range(2)] == [3.0, 5.0]


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"tiny", b"tinz", b"404"),
        (b"POST", b"PUST", b"400"),
        (b"POST", b"PUT", b"405"),
        (b"HTTP/1.1", b"HTTP/9.9", b"400"),
        (b"host: x", b"host x", b"400"),
        (b"content-length: ", b"content-length: +", b"400"),
        (b"host: x", b"authorization: Nobody", b"401"),
        (b"host: x", b"content-encoding: br", b"415"),
        (b"host: x", b"inference-header-content-length: no", b"400"),
        (b"host: x", b"inference-header-content-length: 3", b"400"),
        (b"/infer", b"/versions/2/infer", b"404"),
        (b"host: x", b"content-length: 1", b"400"),
    ],
)
def test_a_head_that_differs_is_another_one(wire: Line, old: bytes, new: bytes, status: bytes) -> None:
    wire.sendall(request(head=HEAD.replace(old, new)))

    assert wire.answer().startswith(b"HTTP/1.1 " + status)


def test_a_chunked_body_between_known_heads(wire: Line) -> None:
    head = HEAD.replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked")
    chunked = head + b"%x\r\n%b\r\n" % (9, OTHER[:9]) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(OTHER) - 9, OTHER[9:])

    for sent, expected in ((chunked, 5.0), (request(), 3.0)) * 3:
        wire.sendall(sent)
        assert values(wire.answer())[0] == expected


def test_other_requests_between_known_heads(wire: Line) -> None:
    live = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    for _ in range(3):
        wire.sendall(live)
        assert wire.answer().endswith(b'{"live":true}')
        wire.sendall(b"\r\n")  # which the parser takes for nothing
        wire.sendall(request())
        assert values(wire.answer())[0] == 3.0


@pytest.mark.parametrize("body", [b"{" * len(BODY), BODY.replace(b'"a"', b'"c"'), BODY.replace(b"FP32", b"FP99")])
def test_a_wrong_body_behind_a_known_head_is_refused_as_any(http: HttpServer, wire: Line, body: bytes) -> None:
    expected = http.ask("POST", PATH, body)

    wire.sendall(request(body))
    reply = wire.answer()

    assert reply.startswith(b"HTTP/1.1 400")
    assert reply.partition(b"\r\n\r\n")[2] == expected.body
    wire.sendall(request())
    assert values(wire.answer())[0] == 3.0


ROUTE = find(PATH)
HEADERS = [(b"host", b"x"), (b"content-length", b"%d" % len(BODY))]


def learned(data: bytes, headers: list[tuple[bytes, bytes]], size: int) -> Heads:
    heads = Heads({})
    assert ROUTE is not None
    heads.learn(data, ROUTE, PATH.encode(), headers, size)
    return heads


def test_only_the_same_bytes_with_a_body_of_the_same_length_are_found() -> None:
    heads = learned(request(), HEADERS, len(BODY))

    assert heads.find(request(OTHER)) is not None
    for at in range(len(HEAD)):
        changed = bytearray(request())
        changed[at] ^= 1
        assert heads.find(bytes(changed)) is None
    for wrong in (request() + b"\r\n", request()[:-1], request() * 2, HEAD, b"", b"\r\n" + request()):
        assert heads.find(wrong) is None


OTHER_PATH = "/invocations/other"
OTHER_HEAD = HEAD.replace(PATH.encode(), OTHER_PATH.encode())


def test_a_known_path_before_known_fields_is_found() -> None:
    heads = Heads({OTHER_PATH.encode(): find(OTHER_PATH), b"/": None})
    assert ROUTE is not None
    heads.learn(request(), ROUTE, PATH.encode(), HEADERS, len(BODY))

    for _ in range(2):
        head = heads.find(request(OTHER, OTHER_HEAD))
        assert head is not None
        assert (head.url, head.headers, head.size) == (OTHER_PATH.encode(), HEADERS, len(BODY))
        assert head.route.name == b"other"
        assert head.json_size == -1  # which is V2's


@pytest.mark.parametrize("fields", [HEAD.partition(b"\r\n")[2], b"\r\n"])
def test_anything_else_before_or_behind_a_path_is_not(fields: bytes) -> None:
    heads = Heads({OTHER_PATH.encode(): find(OTHER_PATH), b"/": None})
    assert ROUTE is not None
    heads.learn(request(), ROUTE, PATH.encode(), HEADERS, len(BODY))
    path = OTHER_PATH.encode()

    for at in range(len(OTHER_HEAD)):
        changed = bytearray(request(head=OTHER_HEAD))
        changed[at] ^= 1
        assert heads.find(bytes(changed)) is None
    for line in (
        b"POST / HTTP/1.1\r\n",
        b"POST /v2/models/unseen/infer HTTP/1.1\r\n",
        b"GET %b HTTP/1.1\r\n" % path,
        b"POST %b HTTP/1.0\r\n" % path,
        b"POST %b\r\n" % path,
        b"POST %b HTTP/1.1 HTTP/1.1\r\n" % path,
        b"POST  %b HTTP/1.1\r\n" % path,
        b"\r\nPOST %b HTTP/1.1\r\n" % path,
        b"POST %b HTTP/1.1\n" % path,
        b"",
    ):
        assert heads.find(line + fields + BODY) is None
    assert heads.find(b"POST %b HTTP/1.1\r\n" % path + HEAD.partition(b"\r\n")[2] + BODY[:-1]) is None


def sum_and_product() -> bytes:
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    row = (TensorProto.FLOAT, ("N", 2))
    return onnx_model(nodes, {"a": row, "b": row}, {"sum": row, "product": row})


def test_a_known_head_with_the_path_of_another_deployment(http: HttpServer, wire: Line) -> None:
    """Two models with the same inputs are told apart, and so is a deployment that isn't there."""
    client = http.engine.client()
    client.execute_command("AI.MODELSTORE", "http:swap", "ONNX", "CPU", "BLOB", sum_and_product())
    for _ in range(3):
        wire.sendall(request(head=HEAD.replace(b"tiny", b"swap")) + request())
        assert [values(wire.answer()) for _ in range(2)] == [[4.0, 6.0, 3.0, 8.0], [3.0, 8.0, 4.0, 6.0]]
        wire.sendall(request(head=HEAD.replace(b"tiny", b"none")))
        assert wire.answer().startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    ("data", "headers", "size"),
    [
        (b"\r\n" + request(), HEADERS, len(BODY)),
        (request().replace(b"\r\n", b"\n"), HEADERS, len(BODY)),
        (HEAD.replace(b"host: x\r\n", b"host: x\n") + BODY, HEADERS, len(BODY)),
        (HEAD[:-4] + b"\n\n\r\n\r\n" + BODY, HEADERS, len(BODY)),
        (HEAD + b"\r\n\r\n" + b"\r\n", [(b"content-length", b"4")], 4),
        (request(), [*HEADERS, HEADERS[1]], len(BODY)),
        (request(), [(b"content-length", b"+%d" % len(BODY))], len(BODY)),
        (request(), [*HEADERS, (b"transfer-encoding", b"chunked")], len(BODY)),
        (request(), [*HEADERS, (b"expect", b"100-continue")], len(BODY)),
        (request(), [*HEADERS, (b"connection", b"close")], len(BODY)),
        (request(), [*HEADERS, (b"traceparent", b"00-1-1-00")], len(BODY)),
        (request(), [*HEADERS, (b"authorization", b"Nobody")], len(BODY)),
        (HEAD, HEADERS, 0),
        (b"POST /" + b"a" * 4000 + HEAD + BODY, HEADERS, len(BODY)),
    ],
)
def test_what_could_be_read_otherwise_is_not_learned(
    data: bytes, headers: list[tuple[bytes, bytes]], size: int
) -> None:
    assert learned(data, headers, size).find(data) is None


def test_heads_are_forgotten_rather_than_kept_without_bound() -> None:
    heads = Heads({})
    assert ROUTE is not None
    for number in range(600):
        heads.learn(request(head=b"POST /%d HTTP/1.1\r\n\r\n" % number), ROUTE, b"/", HEADERS, len(BODY))

    found = [heads.find(request(head=b"POST /%d HTTP/1.1\r\n\r\n" % number)) for number in range(600)]
    assert found[-1] is not None
    assert sum(head is not None for head in found) < 512
