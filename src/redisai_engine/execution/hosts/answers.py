"""
Errors and replies of Redis as JSON, for the frames between the engine and its hosts.
"""

from __future__ import annotations

from typing import Any

from redisai_engine import errors
from redisai_engine.errors import EngineError, ModelRunError
from redisai_engine.protocol.frames import ReplyError, Value

_KINDS: dict[str, type[EngineError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, EngineError)
}


def from_error(error: Exception) -> dict[str, Any]:
    """Return the answer to a request that failed."""
    if isinstance(error, EngineError):
        return {"error": [type(error).__name__, error.wire]}
    if isinstance(error, MemoryError):
        return {"error": [ModelRunError.__name__, "ERR out of memory: host-memory limits what a model's process takes"]}
    return {"error": [ModelRunError.__name__, f"ERR {type(error).__name__}: {error}"]}


def to_error(kind: str, text: str) -> EngineError:
    """Return the error of such an answer. One of an unknown kind is a ModelRunError."""
    known = _KINDS.get(kind, ModelRunError)
    error = known.__new__(known)
    EngineError.__init__(error, text)  # some kinds make their text of other arguments
    return error


def from_value(value: Value) -> Any:
    """Return a reply of Redis as JSON."""
    if isinstance(value, bytes):
        return {"bytes": from_bytes(value)}
    if isinstance(value, ReplyError):
        return {"error": value.text}
    return [from_value(element) for element in value] if isinstance(value, list) else value


def to_value(told: Any) -> Value:
    """Return the reply of Redis that JSON stands for."""
    if isinstance(told, list):
        return [to_value(element) for element in told]
    if isinstance(told, dict):
        return to_bytes(told["bytes"]) if "bytes" in told else ReplyError(told["error"])
    return told  # type: ignore[no-any-return]


def from_bytes(raw: bytes) -> str:
    return raw.decode("latin-1")


def to_bytes(told: str) -> bytes:
    return told.encode("latin-1")
