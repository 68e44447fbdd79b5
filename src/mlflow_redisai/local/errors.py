"""
The errors of run-local. They are a branch of the tree in `mlflow_redisai.errors`:

    RedisAIError
     └─ LocalProblem
         ├─ PortTaken            something listens on the port
         ├─ ServerThere          the server of an earlier run-local uses the data directory or the container's name
         ├─ BadDataFolder        data_dir can't be used
         ├─ NoDocker             the docker command is missing, or its daemon doesn't respond
         ├─ NoImage              the image is not on this machine and can't be pulled
         └─ StartFailed          the server exited at startup, or wasn't ready in time
"""

from __future__ import annotations

from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_CONFLICT,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)

from mlflow_redisai.errors import RedisAIError
from mlflow_redisai.local.ports import HOST, Occupant

LOG_LINES = 5  # lines of a failed server's log that a message quotes
WITHOUT_DOCKER = "or use runtime=embedded, which needs no Docker"


class LocalProblem(RedisAIError):
    """
    Base class of the errors that only run-local raises.

    When one reaches the caller, nothing of the server is left.
    """


class PortTaken(LocalProblem):
    """Something listens on the port. The remedy depends on what it is."""

    code = RESOURCE_CONFLICT

    def __init__(self, port: int, by: Occupant, name: str) -> None:
        uri = f"redis://{HOST}:{port}"
        way_out = {
            "redis with AI commands": f"a Redis server with AI commands: deploy to it with "
            f"`mlflow deployments create -t redisai://{HOST}:{port} --name {name} -m ...`, or choose",
            "redis": f"a Redis server without AI commands: put the engine in front of it with "
            f"`redisai-engine --port {port + 1} --redis {uri}`, or choose",
            "another program": "another program: choose",
        }[by]
        super().__init__(f"port {port} is taken by {way_out} another port with -C port=... (0: any free port)")


class ServerThere(LocalProblem):
    """The server of an earlier run-local is in the way."""

    code = RESOURCE_CONFLICT

    def __init__(self, what: str, stop: str) -> None:
        super().__init__(f"{what}: deploy to it with `mlflow deployments create` or `update`, or stop it with `{stop}`")


class BadDataFolder(LocalProblem):
    """The data directory can't be used."""

    code = INVALID_PARAMETER_VALUE

    def __init__(self, data_dir: str, reason: str) -> None:
        super().__init__(f"data_dir={data_dir} can't be used ({reason}): choose a folder that you can write to")


class NoDocker(LocalProblem):
    """The docker command is missing, or its daemon doesn't respond."""

    code = TEMPORARILY_UNAVAILABLE

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(f"runtime=docker needs Docker, but {reason}: {cure}, {WITHOUT_DOCKER}")


class NoImage(LocalProblem):
    """The image is not on this machine and can't be pulled."""

    code = RESOURCE_DOES_NOT_EXIST

    def __init__(self, image: str, reason: str) -> None:
        super().__init__(
            f"the image {image} is not on this machine and can't be pulled ({reason}): "
            f"choose another with -C image=..., {WITHOUT_DOCKER}"
        )


class StartFailed(LocalProblem):
    """The server could not be started, or exited before it was ready. The message quotes the last lines of its log."""

    code = TEMPORARILY_UNAVAILABLE

    def __init__(self, what: str, reason: str, log: str = "") -> None:
        lines = [line.strip() for line in log.splitlines() if line.strip()][-LOG_LINES:]
        said = f"; the last lines of its log: {' | '.join(lines)}" if lines else ""
        super().__init__(f"{what} {reason}{said}")
