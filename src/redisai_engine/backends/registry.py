"""
Finds the backend for a name: a table of import strings, each loaded when a model first needs it.

Invariant: a backend is made once in a process, and a failed attempt leaves no trace, so that a framework installed
meanwhile is found by the next one.
"""

from __future__ import annotations

from importlib import import_module
from threading import Lock
from typing import cast

from redisai_engine.backends.base import Backend
from redisai_engine.errors import BackendMissing

#: RedisAI's name of a backend: where its class is.
BACKENDS = {
    "ONNX": "redisai_engine.backends.onnx:OnnxBackend",
    "TORCH": "redisai_engine.backends.torch:TorchBackend",
    "TF": "redisai_engine.backends.tensorflow:TensorFlowBackend",
    "TFLITE": "redisai_engine.backends.tflite:TFLiteBackend",
}

#: What pip has to install for a backend's framework.
PACKAGES = {
    "ONNX": "mlflow-redisai[engine]",
    "TORCH": "mlflow-redisai[torch]",
    "TF": "mlflow-redisai[tensorflow]",
    "TFLITE": "mlflow-redisai[tflite]",
}

_loaded: dict[str, Backend] = {}
_lock = Lock()


def backend(name: str) -> Backend:
    """Gives the backend that RedisAI calls `name` (upper case). Raises BackendMissing; KeyError for another name."""
    found = _loaded.get(name)
    if found is not None:
        return found
    where = BACKENDS[name]
    # A second thread must wait: frameworks don't like to be imported twice at once.
    with _lock:
        if name not in _loaded:
            _loaded[name] = _make(name, where)
        return _loaded[name]


def loaded_versions() -> dict[str, str]:
    """Gives the version of each framework that is in memory, by backend."""
    return {name: found.version for name, found in _loaded.items()}


def _make(name: str, where: str) -> Backend:
    module, _, class_name = where.partition(":")
    try:
        return cast(Backend, getattr(import_module(module), class_name)())
    except (ImportError, OSError) as error:  # OSError: a shared library of the framework is missing
        raise BackendMissing(name, PACKAGES[name]) from error
