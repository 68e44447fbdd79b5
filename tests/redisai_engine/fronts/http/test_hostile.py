"""Whatever is sent to the port for HTTP: the engine answers, lives on, and never says that it has failed itself."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS
from support.http_calls import HttpServer, infer_json

PAIR = infer_json(a=("FP32", [1, 2], [1, 2]), b=("FP32", [1, 2], [3, 4]))
BODY = json.dumps(PAIR).encode()
REQUEST = (
    b"POST /v2/models/http:tiny/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n" % len(BODY) + BODY
)
PIECES = (
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b"\xff",
    b"HTTP/1.1",
    b"chunked",
    b"transfer-encoding: chunked\r\n",
    b"{",
    b"[" * 50,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["FP32", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["inputs", "name", "shape", "data", "datatype", "parameters"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("target", ["v2-requests", "invocations", "http-heads"])
@given(data=st.binary(max_size=300))
@settings(max_examples=300)
def test_readers_take_or_refuse_any_bytes(target: str, data: bytes) -> None:
    TARGETS[target](data)


def answer_to(server: HttpServer, sent: bytes) -> bytes:
    """Return all that is answered to these bytes, after which nothing more comes."""
    with socket.create_connection((server.host, server.port), timeout=30) as wire:
        received = b""
        with contextlib.suppress(OSError):  # it may close before everything is sent
            wire.sendall(sent)
            wire.shutdown(socket.SHUT_WR)
            while data := wire.recv(65536):
                received += data
    return received


@given(at=st.integers(0, len(REQUEST)), gone=st.integers(0, 12), piece=st.sampled_from(PIECES), twice=st.booleans())
@settings(max_examples=200)
def test_damaged_requests(http: HttpServer, at: int, gone: int, piece: bytes, *, twice: bool) -> None:
    sent = REQUEST[:at] + piece + REQUEST[at + gone :]

    answer = answer_to(http, sent * (1 + twice) + REQUEST)

    assert b"HTTP/1.1 500" not in answer
    assert http.engine.process.poll() is None


@given(document=JSON)
@settings(max_examples=200)
def test_any_json_is_answered_and_never_with_500(http: HttpServer, document: Any) -> None:
    for path in ("/v2/models/http:tiny/infer", "/invocations/http:tiny"):
        assert http.ask("POST", path, document).status in (200, 400)


@given(inputs=st.lists(JSON, max_size=3), parameters=JSON)
@settings(max_examples=100)
def test_any_inputs(http: HttpServer, inputs: Any, parameters: Any) -> None:
    document = {"inputs": inputs, "parameters": parameters}

    assert http.ask("POST", "/v2/models/http:tiny/infer", document).status in (200, 400)


def resident(server: HttpServer) -> int:
    """Return the bytes of memory that the engine takes at most so far."""
    status = Path(f"/proc/{server.engine.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 2_000_000,
        b'{"inputs":' * 200_000,
        b'{"inputs": [' + b"{}," * 5_000_000 + b"{}]}",
        b'{"inputs": [{"name": "a", "datatype": "BYTES", "shape": [2], "data": [' + b'"",' * 5_000_000 + b'""]}]}',
        b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [1099511627776], "data": []}]}',
    ],
    ids=["lists", "objects", "empty objects", "texts", "a shape"],
)
def test_small_bodies_take_no_large_memory(http: HttpServer, body: bytes) -> None:
    before = resident(http)

    for path in ("/v2/models/http:tiny/infer", "/invocations/http:tiny"):
        assert http.ask("POST", path, body).status in (400, 413)
    assert resident(http) - before < 1 << 30


def test_a_text_may_not_be_longer_than_the_body(http: HttpServer) -> None:
    about = {"name": "a", "datatype": "BYTES", "shape": [2**30], "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [about]}).encode()
    sizes = {"inference_header_content_length": str(len(head))}

    reply = http.ask("POST", "/v2/models/http:tiny/infer", head + struct.pack("<II", 2**31, 1), **sizes)

    assert reply.status == 400
    assert "too few for 1073741824 texts" in reply.json()["error"]
