"""An engine that only the foreign clients use, because they empty it, and the models that they store there."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from support.servers import Server, start_engine
from support.tiny_models import product_and_sum

PACKAGES = {"ONNX": "onnxruntime", "TORCH": "torch", "TF": "tensorflow"}


@pytest.fixture(scope="session")
def clients_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that any client may empty with FLUSHALL. So only one client uses it at a time."""
    server = start_engine(tmp_path_factory.mktemp("clients"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def told(clients_engine: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a client's program is given: the engine's address, and model files for the backends that are installed."""
    folder = tmp_path_factory.mktemp("client-models")
    models = {}
    for backend, package in PACKAGES.items():
        if importlib.util.find_spec(package) is not None:
            file = folder / f"{backend}.model"
            file.write_bytes(product_and_sum(backend).blob)
            models[backend] = {"file": str(file)}
    return {"host": clients_engine.host, "port": clients_engine.port, "protocol": 2, "models": models}
