"""
The backends by name: one row each, imported when a model first needs it.

Invariant: a backend is created once per process, and a failed attempt leaves no trace, so that the next attempt finds
a framework that was installed in the meantime.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from threading import Lock
from typing import cast

from redisai_engine.backends.base import Backend
from redisai_engine.errors import BackendMissing


@dataclass(frozen=True)
class BackendRow:
    """Where a backend's class is, what pip must install for its framework, and the INFO field of its version."""

    where: str
    package: str
    version_field: str


#: By RedisAI's name of the backend, in the order of RedisAI's INFO.
BACKENDS = {
    "TF": BackendRow(
        "redisai_engine.backends.tensorflow:TensorFlowBackend", "mlflow-redisai[tensorflow]", "TensorFlow_version"
    ),
    "TFLITE": BackendRow(
        "redisai_engine.backends.tflite:TFLiteBackend", "mlflow-redisai[tflite]", "TensorFlowLite_version"
    ),
    "TORCH": BackendRow("redisai_engine.backends.torch:TorchBackend", "mlflow-redisai[torch]", "Torch_version"),
    "ONNX": BackendRow("redisai_engine.backends.onnx:OnnxBackend", "mlflow-redisai[engine]", "onnxruntime_version"),
}

#: The backend of Python models, which has no framework of the engine's.
PYTHON = "PYFUNC"

#: All names of backends that a model may have.
NAMES = (*BACKENDS, PYTHON)

_loaded: dict[str, Backend] = {}
_lock = Lock()


def backend(name: str) -> Backend:
    """
    Return the backend that RedisAI calls `name` (in upper case).

    Raise BackendMissing if its framework isn't installed, and KeyError for an unknown name.
    """
    found = _loaded.get(name)
    if found is not None:
        return found
    row = BACKENDS[name]
    # A second thread must wait: frameworks may break if two threads import them at the same time.
    with _lock:
        if name not in _loaded:
            _loaded[name] = _make(name, row)
        return _loaded[name]


def loaded_versions() -> dict[str, str]:
    """Return the version of each loaded framework, by backend."""
    return {name: found.version for name, found in _loaded.items()}


def _make(name: str, row: BackendRow) -> Backend:
    module, _, class_name = row.where.partition(":")
    try:
        return cast(Backend, getattr(import_module(module), class_name)())
    except (ImportError, OSError) as error:  # OSError: a shared library of the framework is missing
        raise BackendMissing(name, row.package) from error
