"""Protected mode: clients of other machines need a password that Redis asks for, or they are refused."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from support.addresses import address_of_this_machine
from support.connection import Connect, Connection
from support.gateway import Pair, predict, store_model
from support.servers import Server
from support.waiting import wait_until

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
REDIS_CLI = "redis-cli"


def seen_from_outside(server: Server, family: socket.AddressFamily = socket.AF_INET) -> Server:
    return replace(server, host=address_of_this_machine(family))


def seen_from_here(server: Server, host: str = "127.0.0.1") -> Server:
    return replace(server, host=host)


def assert_denied(wire: Connection, *sent: str) -> None:
    """Whatever is sent, there is one error, and then the end."""
    wire.send(*sent)
    denied = wire.rest()
    assert denied.startswith(b"-DENIED protected mode: ")
    assert b"--protected-mode no" in denied
    assert denied.count(b"\r\n") == 1


class TestWithoutPassword:
    """Redis lets everybody in, so the engine lets in nobody from elsewhere."""

    @pytest.fixture(params=["a Redis", "an embedded Redis", "two workers"])
    def server(self, request: pytest.FixtureRequest, redis_server: Server, new_engine: Callable[..., Server]) -> Server:
        options = {"a Redis": ("--redis", redis_server.url), "an embedded Redis": (), "two workers": ("--workers", "2")}
        return new_engine("--bind", "0.0.0.0", *options[request.param])

    def test_clients_from_elsewhere_are_refused_before_any_command(self, server: Server, connect: Connect):
        outside, local = seen_from_outside(server), connect(seen_from_here(server))
        store_model(local, "protected:sum")

        assert_denied(connect(outside))
        assert_denied(connect(outside), "SET protected:key 1", "AI.INFO protected:sum", "QUIT")

        assert local.ask("EXISTS protected:key") == b":0\r\n"
        assert predict(local, "protected:sum", 2, 3) == 5.0
        local.ask("DEL protected:sum")
        server.logged("clients of other machines are let in only while Redis asks for a password")

    def test_clients_are_told_why(self, server: Server):
        outside = seen_from_outside(server)

        said = subprocess.run(
            [REDIS_CLI, "-h", outside.host, "-p", str(outside.port), "PING"], capture_output=True, text=True, timeout=30
        )
        with pytest.raises(redis.ResponseError, match="protected mode"):
            redis.Redis(host=outside.host, port=outside.port).ping()

        assert "DENIED protected mode" in said.stdout + said.stderr


def test_ipv6_too(redis_server: Server, new_engine: Callable[..., Server], connect: Connect):
    server = new_engine("--bind", "::", "--redis", redis_server.url)

    assert connect(seen_from_here(server, "::1")).ask("PING") == PONG
    assert_denied(connect(seen_from_outside(server, socket.AF_INET6)), "PING")


def test_an_address_of_its_own_is_no_loopback_address(
    redis_server: Server, new_engine: Callable[..., Server], connect: Connect
):
    """As in Redis, and whatever the port leads to."""
    server = new_engine("--bind", address_of_this_machine(socket.AF_INET), "--redis", redis_server.url)

    assert_denied(connect(server), "PING")


def test_it_can_be_turned_off(redis_server: Server, new_engine: Callable[..., Server], connect: Connect):
    server = new_engine("--bind", "0.0.0.0", "--protected-mode", "no", "--redis", redis_server.url)

    assert connect(seen_from_outside(server)).ask("PING") == PONG
    assert "clients of other machines" not in server.log.read_text()


class TestWithPassword:
    """Who may do what is Redis' business, as soon as it asks for a password."""

    def test_clients_log_in(self, new_pair: Callable[..., Pair], connect: Connect):
        pair = new_pair("--bind", "0.0.0.0", redis=("--requirepass", "secret"))
        outside = seen_from_outside(pair.engine)
        wire = connect(outside)

        assert wire.ask("GET key").startswith(b"-NOAUTH ")
        assert wire.ask("AUTH secret") == OK
        store_model(wire, "m")
        assert predict(wire, "m", 2, 3) == 5.0
        assert redis.Redis(host=outside.host, port=outside.port, password="secret").ping()

    @pytest.mark.parametrize(
        ("commands", "is_let_in"),
        [
            (["CONFIG SET requirepass secret"], True),
            (["ACL SETUSER default off"], True),
            (["ACL SETUSER default resetpass >secret"], True),
            (["ACL SETUSER default -@all"], False),
            (["CONFIG SET requirepass secret", "ACL SETUSER default nopass"], False),
        ],
    )
    def test_what_is_changed_later_counts_from_then_on(
        self,
        new_pair: Callable[..., Pair],
        connect: Connect,
        commands: list[str],
        is_let_in: bool,  # noqa: FBT001
    ):
        pair = new_pair("--bind", "0.0.0.0")
        outside, direct = seen_from_outside(pair.engine), connect(pair.redis)
        assert_denied(connect(outside), "PING")

        for command in commands:
            assert direct.ask(command) == OK

        if is_let_in:
            assert connect(outside).ask("PING").startswith(b"-NOAUTH ")
        else:
            assert_denied(connect(outside), "PING")

    def test_a_password_of_the_embedded_server(self, new_engine: Callable[..., Server], connect: Connect):
        server = new_engine("--bind", "0.0.0.0")
        local = connect(seen_from_here(server))
        local.ask("CONFIG SET requirepass secret")

        wire = connect(seen_from_outside(server))

        assert wire.ask("PING").startswith(b"-NOAUTH ")
        assert wire.ask("AUTH secret") == OK


def test_without_redis_nobody_is_let_in(new_pair: Callable[..., Pair], connect: Connect):
    """The connection ends, as that of a client that would have been served."""
    pair = new_pair("--bind", "0.0.0.0")
    pair.redis.process.kill()
    pair.redis.process.wait()

    wire = connect(seen_from_outside(pair.engine))

    assert wire.rest() == b""


def test_who_is_refused_leaves_nothing(new_pair: Callable[..., Pair], connect: Connect):
    pair = new_pair("--bind", "0.0.0.0")
    direct = connect(pair.redis)
    outside = seen_from_outside(pair.engine)
    before = direct.ask("CLIENT LIST").count(b"id=")

    for _ in range(20):
        assert_denied(connect(outside), "PING")

    # The engine's own connections, one for tracking and one that looks whether Redis lives, may have come or gone.
    wait_until(lambda: direct.ask("CLIENT LIST").count(b"id=") <= before + 2)
