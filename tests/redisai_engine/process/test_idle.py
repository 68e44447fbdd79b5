"""An engine imports only what it needs: little before the first request, and little more for an ONNX model."""

from __future__ import annotations

from collections.abc import Callable

from support.connection import Connect
from support.servers import Server
from support.tiny_models import product_and_sum

#: What an engine with one process and an ONNX model does without: half a megabyte and more each, with what they import.
HEAVY = {
    *("tempfile", "shutil", "random", "secrets", "bz2", "lzma", "zlib"),
    *("encodings.idna", "stringprep", "unicodedata"),
    *("hashlib", "hmac", "uuid", "email", "http", "multiprocessing"),
    *("redisai_engine.process.worker", "redisai_engine.process.workers"),
}

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
    assert found & (UNWANTED | HEAVY) == set()
    assert [name for name in found if name.startswith("_sysconfigdata")] == []  # how Python was built


def test_an_onnx_model_brings_little(new_engine: Callable[..., Server], connect: Connect) -> None:
    engine = new_engine(environment={"PYTHONPROFILEIMPORTTIME": "1"})
    wire = connect(engine)

    assert wire.ask("AI.MODELSTORE", "m", "ONNX", "CPU", "BLOB", product_and_sum("ONNX").blob) == b"+OK\r\n"
    assert wire.ask("AI.TENSORSET a FLOAT 1 2 VALUES 2 3") == b"+OK\r\n"
    assert wire.ask("AI.TENSORSET b FLOAT 1 2 VALUES 2 3") == b"+OK\r\n"
    assert wire.ask("AI.MODELEXECUTE m INPUTS 2 a b OUTPUTS 2 c d") == b"+OK\r\n"
    found = imported(engine)

    assert "onnxruntime" in found
    assert found & HEAVY == set()


def test_what_is_on_is_imported(new_engine: Callable[..., Server]) -> None:
    """The list above would pass if its names were wrong."""
    engine = new_engine("--python-models", "true", environment={"PYTHONPROFILEIMPORTTIME": "1"})

    assert {"packaging", "redisai_engine.environments", "redisai_engine.execution.hosts.python"} <= imported(engine)
