from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.http_calls import HttpServer, http_engine, start_http_engine
from support.servers import Server
from support.tiny_models import product_and_sum


@pytest.fixture(scope="session")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """An engine with an HTTP port, shared by the session. Use unique keys."""
    with http_engine(tmp_path_factory.mktemp("http")) as server:
        store(server, "http:tiny")
        yield server


@pytest.fixture
def new_http(new_engine: Callable[..., Server], tmp_path: object) -> Callable[..., HttpServer]:
    """A function that starts further engines with an HTTP port for one test."""

    def start(*arguments: str) -> HttpServer:
        return start_http_engine(tmp_path, *arguments, start=new_engine)  # type: ignore[arg-type]

    return start


def store(server: HttpServer, name: str, *, user: str = "", password: str = "") -> None:
    """Store the model product_and_sum."""
    model = product_and_sum("ONNX")
    client = server.engine.client(username=user or None, password=password or None)
    client.execute_command("AI.MODELSTORE", name, "ONNX", "CPU", "BLOB", model.blob)
