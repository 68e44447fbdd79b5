"""What the plugin asks a server, and what it makes of the answers."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException

from mlflow_redisai.connection import Connection
from mlflow_redisai.models.base import ServerLimits
from mlflow_redisai.server import ask, limits_of
from mlflow_redisai.target import Target


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (None, ServerLimits()),
        ("strange", ServerLimits()),
        ("1.8.0", ServerLimits()),
        ("1.9.0", ServerLimits(15, 2, 8)),
        ("1.11.1", ServerLimits(16, 3, 8)),
        ("1.17.3", ServerLimits(20, 4, 9)),
        ("1.20.0", ServerLimits(21, 5, 10)),
        ("1.99.0", ServerLimits(22, 5, 10)),
        ("2.0", ServerLimits(22, 5, 10)),
    ],
)
def test_what_a_server_loads_follows_from_its_onnx_runtime(version: str | None, expected: ServerLimits) -> None:
    assert limits_of(version) == expected


def test_a_redis_without_redisai_is_told_as_such(redis_server) -> None:
    """Before anything is converted or stored."""
    with pytest.raises(MlflowException) as caught:
        ask(Connection(Target.parse(redis_server.target)), b"iris")

    assert caught.value.message == (
        f"Redis at 127.0.0.1:{redis_server.port} has no RedisAI: unknown command 'AI.CONFIG', with args beginning "
        "with: 'GET' 'MODEL_CHUNK_SIZE'; load the RedisAI module there, or start "
        "redisai-engine in front of it and name the "
        "engine's address as the target"
    )
    assert caught.value.error_code == "NOT_IMPLEMENTED"
