"""The gate: no route answers a user whom Redis doesn't let in, and rights are Redis' own."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from redisai_engine.fronts.http.application import all_routes
from redisai_engine.fronts.http.gate import OPEN, parse_authorization
from support.addresses import address_of_this_machine
from support.http_calls import HttpReply, HttpServer, infer_json, start_http_engine
from support.servers import start_redis
from support.tiny_models import product_and_sum
from support.waiting import wait_until

PAIR = infer_json(a=("FP32", [1, 2], [1, 2]), b=("FP32", [1, 2], [3, 4]))
WINE = "/v2/models/wine/infer"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """An engine whose Redis asks for a password. `ann` may read what begins with wine, `bob` what begins with beer."""
    folder = tmp_path_factory.mktemp("guarded")
    redis_server = start_redis(folder / "redis", "--requirepass", "secret")
    server = start_http_engine(folder / "engine", "--redis", f"redis://:secret@127.0.0.1:{redis_server.port}")
    admin = server.engine.client(password="secret")
    for user, pattern in (("ann", "wine*"), ("bob", "beer*")):
        admin.execute_command("ACL", "SETUSER", user, "on", f">{user}:pw", f"~{pattern}", "+@read", "+ping", "+auth")
    admin.execute_command("AI.MODELSTORE", "wine", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob)
    yield server
    server.engine.stop()
    redis_server.stop()


def basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


ROUTES = sorted({(method, path) for method, path in all_routes() if path not in OPEN})


def test_there_are_routes_to_walk_through() -> None:
    assert ("POST", "/v2/models/{name}/infer") in ROUTES
    assert len(ROUTES) > 3


@pytest.mark.parametrize(
    "header", [None, "Basic !", basic("ann:wrong"), basic("nobody:x"), "Bearer ann:no", "Digest x"]
)
def test_no_route_answers_without_right_credentials(guarded: HttpServer, header: str | None) -> None:
    for method, path in [*ROUTES, ("GET", "/nothing/here"), ("POST", "/v2/models//infer")]:
        reply = guarded.ask(method, path, b"{}", **({} if header is None else {"authorization": header}))

        assert reply.status == 401, (method, path)
        assert reply.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("path", sorted(OPEN))
def test_health_needs_no_credentials_and_tells_only_a_status(guarded: HttpServer, path: str) -> None:
    assert guarded.ask("GET", path).status != 401


@pytest.mark.parametrize("header", [basic("ann:ann:pw"), "Bearer ann:ann:pw", "bearer :secret", "Bearer secret"])
def test_the_right_credentials_open_the_door(guarded: HttpServer, header: str) -> None:
    assert guarded.ask("POST", WINE, PAIR, authorization=header).status == 200


def test_a_user_without_the_right_to_the_key_gets_403(guarded: HttpServer) -> None:
    reply = guarded.as_user("bob:bob:pw").ask("POST", WINE, PAIR)

    assert reply.status == 403
    assert "error" in reply.json()


def test_users_on_one_connection_are_kept_apart(guarded: HttpServer) -> None:
    connection = guarded.connection()
    statuses = [
        guarded.as_user(user).ask_on(connection, "POST", WINE, PAIR).status
        for user in ("ann:ann:pw", "bob:bob:pw", "ann:wrong", "ann:ann:pw", "bob:bob:pw")
    ]
    connection.close()

    assert statuses == [200, 403, 401, 200, 403]


def test_a_password_that_was_changed_counts_for_a_second_at_most(guarded: HttpServer) -> None:
    admin = guarded.engine.client(password="secret")
    admin.execute_command("ACL", "SETUSER", "eve", "on", ">old", "~*", "+@read", "+auth")
    eve = guarded.as_user("eve:old")
    assert eve.ask("POST", WINE, PAIR).status == 200
    admin.execute_command("ACL", "SETUSER", "eve", "resetpass", ">new")
    changed = time.monotonic()
    while eve.ask("POST", WINE, PAIR).status == 200:
        assert time.monotonic() < changed + 10

    assert guarded.as_user("eve:new").ask("POST", WINE, PAIR).status == 200


def answer_on(wire: socket.socket, request: bytes) -> bytes:
    """Return the answer, which is JSON, to a request on this connection."""
    wire.sendall(request)
    received = b""
    while not received.endswith(b"}"):
        received += wire.recv(65536)
    return received


def test_a_head_that_is_known_opens_no_door_that_has_closed(guarded: HttpServer) -> None:
    """The same bytes on one connection, which skip the parser, but not the gate."""
    admin = guarded.engine.client(password="secret")
    admin.execute_command("ACL", "SETUSER", "kim", "on", ">old", "~*", "+@read", "+auth")
    body = json.dumps(PAIR).encode()
    head = f"POST {WINE} HTTP/1.1\r\nauthorization: {basic('kim:old')}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((guarded.host, guarded.port), timeout=30) as wire:
        for _ in range(5):
            assert answer_on(wire, head.encode() + body).startswith(b"HTTP/1.1 200")
        admin.execute_command("ACL", "SETUSER", "kim", "resetpass")
        changed = time.monotonic()
        answer = b"HTTP/1.1 200"
        while answer.startswith(b"HTTP/1.1 200"):
            assert time.monotonic() < changed + 10
            answer = answer_on(wire, head.encode() + body)

    assert answer.startswith(b"HTTP/1.1 401")


def test_two_authorization_headers_are_refused(guarded: HttpServer) -> None:
    import http.client

    connection = http.client.HTTPConnection(guarded.host, guarded.port, timeout=30)
    connection.putrequest("GET", "/v2")
    for value in (basic("ann:ann:pw"), basic("bob:bob:pw")):
        connection.putheader("authorization", value)
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()

    assert status == 400


def test_without_a_password_everybody_on_this_machine_is_the_default_user(http: HttpServer) -> None:
    assert http.ask("GET", "/v2").status == 200
    assert http.as_user("nobody:x").ask("GET", "/v2").status == 401


def test_protected_mode_keeps_other_machines_out(new_http: Callable[..., HttpServer]) -> None:
    server = new_http("--bind", "0.0.0.0")
    outside = replace(server, host=address_of_this_machine(socket.AF_INET))

    reply = outside.ask("GET", "/v2")
    assert reply.status == 403
    assert "protected mode" in reply.json()["error"]
    assert server.ask("GET", "/v2").status == 200


@pytest.mark.parametrize("change", ["CONFIG SET requirepass secret", "ACL SETUSER default resetpass >secret"])
def test_a_password_that_is_set_later_counts_for_those_who_show_none(
    new_http: Callable[..., HttpServer], change: str
) -> None:
    """Redis itself goes on serving the connections that it has let in before."""
    server = new_http("--bind", "0.0.0.0", "--workers", "1")
    outside = replace(server, host=address_of_this_machine(socket.AF_INET)).as_user("default:secret")
    assert server.ask("GET", "/v2").status == 200
    assert outside.ask("GET", "/v2").status == 403, "protected mode"

    server.engine.client().execute_command(*change.split())

    reply = wait_until(lambda: refused(server), timeout_s=10, what="the refusal")
    assert "NOAUTH" in reply.json()["error"]
    assert server.as_user("default:secret").ask("GET", "/v2").status == 200
    assert outside.ask("GET", "/v2").status == 200
    assert [server.ask("GET", path).status for path in ("/ping", "/v2/health/live", "/v2/health/ready")] == [200] * 3


def refused(server: HttpServer) -> HttpReply | None:
    reply = server.ask("GET", "/v2")
    return reply if reply.status == 401 else None


def test_credentials_may_have_any_characters() -> None:
    found = parse_authorization(basic("änn:p:w\u20ac").encode())

    assert (found.user, found.password) == ("änn", "p:w\u20ac")
    assert "p:w" not in repr(found)
