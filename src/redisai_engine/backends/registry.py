"""
The backends by name: a table of import strings, each imported when a model first needs it.

Invariant: a backend is created once per process, and a failed attempt leaves no trace, so that the next attempt finds
a framework that was installed in the meantime.
"""

from __future__ import annotations

from importlib import import_module
from threading import Lock
from typing import cast

from redisai_engine.backends.base import Backend
from redisai_engine.errors import BackendMissing

#: RedisAI's name of each backend, and where its class is.
BACKENDS = {
    "ONNX": "redisai_engine.backends.onnx:OnnxBackend",
    "TORCH": "redisai_engine.backends.torch:TorchBackend",
    "TF": "redisai_engine.backends.tensorflow:TensorFlowBackend",
    "TFLITE": "redisai_engine.backends.tflite:TFLiteBackend",
}

#: What pip must install for each backend's framework.
PACKAGES = {
    "ONNX": "mlflow-redisai[engine]",
    "TORCH": "mlflow-redisai[torch]",
    "TF": "mlflow-redisai[tensorflow]",
    "TFLITE": "mlflow-redisai[tflite]",
}

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
    where = BACKENDS[name]
    # A second thread must wait: frameworks may break if two threads import them at the same time.
    with _lock:
        if name not in _loaded:
            _loaded[name] = _make(name, where)
        return _loaded[name]


def loaded_versions() -> dict[str, str]:
    """Return the version of each loaded framework, by backend."""
    return {name: found.version for name, found in _loaded.items()}


def _make(name: str, where: str) -> Backend:
    module, _, class_name = where.partition(":")
    try:
        return cast(Backend, getattr(import_module(module), class_name)())
    except (ImportError, OSError) as error:  # OSError: a shared library of the framework is missing
        raise BackendMissing(name, PACKAGES[name]) from error
