"""
The engine's one tree of errors. Each carries the text that goes over the wire.

    EngineError
    ├── CommandError            the client's command can't be carried out; the text is RedisAI's
    │   ├── WrongType           the key holds a value of another kind
    │   ├── BadMetadata         the key's model or script can't be read, because something else wrote its hash
    │   └── UpstreamError       Redis refused a plain command that the AI command is made of; the text is Redis' own
    ├── ModelLoadError          a backend refused the model's bytes; the text is the backend's own
    │   ├── BackendMissing      the backend's framework isn't installed
    │   ├── DeviceUnavailable   the machine lacks the device
    │   ├── EnvironmentFailure  an interpreter with the packages that a Python model wants can't be had
    │   ├── ProbationFailed     the blob took down the process in which it was tried out
    │   └── Quarantined         the blob has crashed a process a short time ago
    ├── ModelRunError           a run failed; the text is the backend's own
    │   ├── RunGivenUp          the run takes longer than allowed and can't be stopped
    │   ├── DeploymentStuck     the model has such a run
    │   ├── ModelKeepsDying     the model's processes keep dying
    │   └── HostOutOfMemory     a process of a model's own has used up the memory that it may take
    ├── QueueFull               too many requests are waiting for a model
    ├── EngineClosing           the engine is shutting down and runs nothing more
    └── StartError              the engine can't start; the text is for the operator

Texts that RedisAI sends are in `redisai_engine.protocol.texts` and in the errors below.
"""

from __future__ import annotations

from collections.abc import Callable


class EngineError(Exception):
    """Any error that the engine reports. `wire` is the text of the error reply, prefix included."""

    def __init__(self, wire: str) -> None:
        super().__init__(wire)
        self.wire = wire


def forget_frames(error: EngineError) -> None:
    """
    Drop where an error comes from, once its text is all that is needed.

    A function that raises what it holds makes a circle of the error and its frames, which would keep all that they hold
    in memory, such as a deleted model and its process, until the garbage collector comes by.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None


class CommandError(EngineError):
    """The client's command can't be carried out."""


class WrongType(CommandError):
    """The key holds a value of another kind than the command needs."""

    def __init__(self) -> None:
        super().__init__("WRONGTYPE Operation against a key holding the wrong kind of value")


class BadMetadata(CommandError):
    """The hash of a model or script doesn't hold what the engine stores. `problem` continues "its description"."""

    def __init__(self, problem: str, part: str = "description") -> None:
        super().__init__(f"ERR the key can't be read as a model or script: its {part} {problem}")


class UpstreamError(CommandError):
    """Redis refused one of the plain commands that the AI command is made of."""


class ModelLoadError(EngineError):
    """A backend refused the model's bytes. `again`, if it has one, raises the error as long as nothing has changed."""

    again: Callable[[], None] | None = None


class BackendMissing(ModelLoadError):
    """The framework of a backend isn't installed. The text says which package to install."""

    def __init__(self, backend: str, package: str) -> None:
        super().__init__(f"ERR Could not load backend: {backend} needs {package}: pip install '{package}'")


class DeviceUnavailable(ModelLoadError):
    """The machine lacks the device, or the installed build of the framework doesn't support it."""


class EnvironmentFailure(ModelLoadError):
    """An interpreter with the packages that a Python model wants can't be had. `problem` says what is missing."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"ERR no environment for the model: {problem}")


class Quarantined(ModelLoadError):
    """The blob has crashed a process. `why` is what happened to that: "was ended by SIGSEGV"."""

    def __init__(self, digest: str, why: str, seconds: float) -> None:
        super().__init__(
            f"ERR refused for another {seconds:.0f} s: the process that loaded or ran the model or script with digest "
            f"{digest} {why}"
        )
        self.seconds = seconds


class ProbationFailed(ModelLoadError):
    """The blob took down the process in which it was tried out. `why` is what happened: "took longer than 5 ms"."""

    def __init__(self, why: str) -> None:
        super().__init__(f"ERR the model is refused: the process that tried it out {why}")
        self.why = why


class ModelRunError(EngineError):
    """A run of a model failed."""


class ModelKeepsDying(ModelRunError):
    """The model's processes have died so often that no more are started."""


class RunGivenUp(ModelRunError):
    """A run takes longer than `model-execution-timeout` allows and can't be stopped."""

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"ERR the run takes longer than the {limit_ms} ms that are allowed and can't be stopped")


class DeploymentStuck(ModelRunError):
    """A run of the same model was given up and hasn't ended yet."""

    def __init__(self, limit_ms: int) -> None:
        super().__init__(
            f"ERR another run of this model takes longer than the {limit_ms} ms that are allowed and can't be stopped; "
            "until it ends, the model isn't run"
        )


class HostOutOfMemory(ModelRunError):
    """A process of a model's own has used up the memory that `host-memory` allows."""

    def __init__(self) -> None:
        super().__init__("ERR out of memory: host-memory limits what a model's process takes")


class QueueFull(EngineError):
    """As many requests for a model as `queue-limit` allows are already waiting for its device."""

    def __init__(self, device: str, waiting: int) -> None:
        super().__init__(
            f"ERR the queue of device {device} is full: {waiting} requests for this model are waiting; try again later"
        )


class NoThread(EngineError):
    """The system lets the engine start no thread, and no other one is there for the run."""

    def __init__(self) -> None:
        super().__init__(
            "ERR no thread can be started for the run: the system allows no more threads or memory; try again later"
        )


class EngineClosing(EngineError):
    """The engine is shutting down and runs nothing more."""

    def __init__(self) -> None:
        super().__init__("ERR the engine is shutting down; connect again")


class StartError(EngineError):
    """The engine can't start with the settings that it was given."""
