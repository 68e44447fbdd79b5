"""What a server can load follows from the version of its ONNX Runtime."""

from __future__ import annotations

import pytest

from mlflow_redisai.server.limits import ServerLimits, limits_of


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (None, ServerLimits()),
        ("strange", ServerLimits()),
        ("1.8.0", ServerLimits()),
        ("1.9.0", ServerLimits(15, 2, 8)),
        ("1.11.1", ServerLimits(16, 2, 8)),
        ("1.12.0", ServerLimits(17, 3, 8)),
        ("1.17.3", ServerLimits(20, 4, 9)),
        ("1.20.0", ServerLimits(21, 5, 10)),
        ("1.99.0", ServerLimits(22, 5, 10)),
        ("2.0", ServerLimits(22, 5, 10)),
    ],
)
def test_what_a_server_loads_follows_from_its_onnx_runtime(version: str | None, expected: ServerLimits) -> None:
    assert limits_of(version) == expected


def test_a_server_that_tells_nothing_gets_what_redisai_1_2_loads() -> None:
    assert limits_of(None) == ServerLimits(opset=15, ml_opset=2, ir_version=8)
