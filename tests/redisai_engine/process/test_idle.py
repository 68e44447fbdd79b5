"""An engine that nobody has asked for anything imports only what it always needs."""

from __future__ import annotations

from collections.abc import Callable

from support.servers import Server

#: What serves a feature that is off, and frameworks, which are imported on first use.
UNWANTED = {
    *("jinja2", "pandas", "prometheus_client", "starlette", "uvicorn"),
    *("mlflow", "mlflow_redisai", "onnx", "onnxruntime", "tensorflow", "torch"),
    *("packaging", "redis", "hiredis", "uv"),
    "redisai_engine.backends.deadly",
    "redisai_engine.codec.encoder",
    "redisai_engine.codec.mapping",
    "redisai_engine.environments",
    "redisai_engine.execution.hosts.python",
    "redisai_engine.execution.hosts.worker",
    "redisai_engine.fronts.http.front",
    "redisai_engine.fronts.http.application",
    "redisai_engine.watching.port",
}


def imported(engine: Server) -> set[str]:
    """Return the modules that a process imported, as its log lists them."""
    lines = engine.log.read_text().splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def test_what_is_off_is_not_imported(new_engine: Callable[..., Server]) -> None:
    engine = new_engine(environment={"PYTHONPROFILEIMPORTTIME": "1"})

    found = imported(engine)

    assert "redisai_engine.process.server" in found
    assert found & UNWANTED == set()
    assert [name for name in found if name.startswith("_sysconfigdata")] == []  # how Python was built


def test_what_is_on_is_imported(new_engine: Callable[..., Server]) -> None:
    """The list above would pass if its names were wrong."""
    engine = new_engine("--python-models", "true", environment={"PYTHONPROFILEIMPORTTIME": "1"})

    assert {"packaging", "redisai_engine.environments", "redisai_engine.execution.hosts.python"} <= imported(engine)
