"""What run-local finds on a port before it starts anything there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from mlflow_redisai.local import ports
from support.servers import Server
from support.waiting import free_port


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port on which a program listens that speaks no protocol: it closes every connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.01)
        yield listener.getsockname()[1]


def test_a_port_nobody_listens_on_is_free() -> None:
    assert ports.is_free(free_port())


def test_port_zero_is_always_free() -> None:
    assert ports.is_free(0)


def test_a_port_with_a_server_is_taken(redis_server: Server) -> None:
    assert not ports.is_free(redis_server.port)


def test_a_plain_redis_is_told_from_one_with_ai_commands(redis_server: Server, engine: Server) -> None:
    assert ports.occupant(redis_server.port) == "redis"
    assert ports.occupant(engine.port) == "redis with AI commands"


def test_a_redis_that_asks_for_a_password_is_still_known_as_one(new_redis: Callable[..., Server]) -> None:
    server = new_redis("--requirepass", "secret")

    assert ports.occupant(server.port) == "redis"
    assert ports.answers_ping(server.port)


def test_a_program_that_is_no_redis_is_another_program(deaf_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "PROBE_TIMEOUT_S", 0.2)

    assert ports.occupant(deaf_port) == "another program"
    assert not ports.answers_ping(deaf_port)
