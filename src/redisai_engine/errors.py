"""
The engine's one tree of errors; each knows the text that goes over the wire.

    EngineError
    ├── CommandError            the client's command can't be carried out; the text is RedisAI's
    │   ├── WrongType           the key holds something else
    │   └── UpstreamError       Redis refused what the command is made of; the text is Redis' own
    ├── ModelLoadError          a backend refused the model's bytes; the text is the backend's own
    │   ├── BackendMissing      the backend's framework isn't installed
    │   └── DeviceUnavailable   this machine lacks the device
    ├── ModelRunError           a run failed; the text is the backend's own
    ├── QueueFull               too many requests wait for a device
    ├── EngineClosing           the engine shuts down and runs nothing more
    ├── StartError              the engine can't start; the text is for the operator
    └── RedisEnded              the engine's own redis-server is gone, and so the engine goes; for the operator, too

Texts that RedisAI sends stand in `redisai_engine.protocol.texts` and at the errors below.
"""

from __future__ import annotations


class EngineError(Exception):
    """Anything that the engine reports; `wire` is the text of the error reply, prefix included."""

    def __init__(self, wire: str) -> None:
        super().__init__(wire)
        self.wire = wire


class CommandError(EngineError):
    """The client's command can't be carried out."""


class WrongType(CommandError):
    """The key holds something else than the command needs."""

    def __init__(self) -> None:
        super().__init__("WRONGTYPE Operation against a key holding the wrong kind of value")


class UpstreamError(CommandError):
    """Redis refused one of the plain commands that the AI command is made of."""


class ModelLoadError(EngineError):
    """A backend refused the model's bytes."""


class BackendMissing(ModelLoadError):
    """The framework of a backend isn't installed."""

    def __init__(self, backend: str, package: str) -> None:
        super().__init__(f"ERR Could not load backend: {backend} needs {package}: pip install '{package}'")


class DeviceUnavailable(ModelLoadError):
    """The machine, or the framework as installed, lacks the device."""


class ModelRunError(EngineError):
    """A run of a model failed."""


class QueueFull(EngineError):
    """More requests wait for a device than the engine is set to hold."""

    def __init__(self, device: str, limit: int) -> None:
        super().__init__(f"ERR {limit} requests are waiting for device {device} already, which is the limit")


class EngineClosing(EngineError):
    """The engine shuts down and runs nothing more."""

    def __init__(self) -> None:
        super().__init__("ERR the engine is shutting down; connect again")


class StartError(EngineError):
    """The engine can't start as it was asked to."""


class RedisEnded(EngineError):
    """The engine's own redis-server ended, though nobody asked it to."""
