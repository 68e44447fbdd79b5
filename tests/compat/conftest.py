"""An engine for the scenarios alone, because they empty it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import redis

from support.servers import Server, start_engine
from support.transcripts import recorded_model

_FIRST_MODELS = (
    ("TF", "CPU", "INPUTS", 2, "a", "b", "OUTPUTS", 1, "mul", "BLOB", "mul.pb"),
    ("TORCH", "CPU", "BLOB", "add.pt"),
    ("ONNX", "CPU", "BLOB", "mul.onnx"),
)


@pytest.fixture(scope="session")
def private_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """
    An engine that any test may empty with FLUSHALL; users that a test makes it deletes.

    Frameworks are loaded before the first scenario: on a busy machine that takes longer than a scenario may wait.
    """
    server = start_engine(tmp_path_factory.mktemp("transcripts"))
    for arguments in _FIRST_MODELS:
        _store_first(server, arguments)
    yield server
    server.stop()


def _store_first(server: Server, arguments: tuple[str | int, ...]) -> None:
    blob = recorded_model(str(arguments[-1]))
    client = server.client(socket_timeout=120)
    with contextlib.suppress(redis.ResponseError):  # a framework that isn't installed; its scenarios are skipped
        client.execute_command("AI.MODELSTORE", "first", *arguments[:-1], blob)
