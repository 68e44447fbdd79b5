"""
run-local: start a server on this machine, deploy one model to it, and leave it running.

`embedded` and `docker` each start one kind of server.

Invariant: run_local() either returns with a server that serves the deployment, or raises and leaves nothing of that
server behind: no process, container, folder or file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mlflow_redisai import config as options_table
from mlflow_redisai import deadline, interrupts
from mlflow_redisai.errors import InvalidOption
from mlflow_redisai.local import docker, embedded, ports
from mlflow_redisai.local.errors import PortTaken
from mlflow_redisai.server.record import check_name

_CURE = "allow more with -C timeout=... (milliseconds)"


class LocalServer(Protocol):
    """A server that run-local has started. `embedded` and `docker` each implement one kind."""

    port: int

    def describe(self) -> str:
        """Return a phrase that says what runs, and as which process or container."""

    def facts(self) -> dict[str, str]:
        """Return what a user may need: the command that stops the server, and where its data and its log are."""

    def leave_running(self) -> None:
        """Let the server outlive this call. Called once."""

    def discard(self) -> None:
        """Stop the server and remove everything that starting it created."""


@dataclass(frozen=True, kw_only=True)
class LocalOptions:
    """
    The options that configure the server, with their defaults: the run-local rows of the table in
    `mlflow_redisai.config`.
    """

    runtime: str = "embedded"
    port: int = 6379
    http_port: int | None = None  # any free one, if what it needs is installed
    image: str | None = None
    data_dir: str | None = None
    start_timeout: int = 60  # seconds

    def __post_init__(self) -> None:
        if self.image is not None and self.runtime != "docker":
            raise InvalidOption(f"option image={self.image!r} needs runtime=docker; set both, or omit image")
        if self.http_port is not None and self.runtime == "docker":
            raise InvalidOption(f"option http_port={self.http_port} needs runtime=embedded: RedisAI speaks no HTTP")


def run_local(
    name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """
    Start a server on this machine, deploy the model to it, print its address, and leave it running.

    Return what create_deployment returns, the server's target URI, and how to stop the server. Raise MlflowException if
    the port is taken, the server can't be started, or the model is refused; nothing is left behind then.
    """
    name = check_name(name)
    # The engine runs in this process' own environment, which is the one that the user deploys from.
    values = {"env": "local", **options_table.parse(config, options_table.RUN_LOCAL)}
    options = LocalOptions(**options_table.local_part(values))
    deployment_options = options_table.DeploymentOptions.of(values)  # raises before anything is started
    what = f"run-local of {name!r}"
    with interrupts.as_exceptions(what), deadline.Limit(what, _seconds(values), _CURE):
        if not ports.is_free(options.port):
            raise PortTaken(options.port, ports.occupant(options.port), name)
        if options.http_port is not None and not ports.is_free(options.http_port):
            raise InvalidOption(f"option http_port={options.http_port} is taken; choose another one (0: any free port)")
        with deadline.step("starting the server"):
            server = _start(name, options, deployment_options.device)
        try:
            deployment = _deploy(server, name, model_uri, flavor, options_table.deployment_part(values))
        except BaseException:
            with interrupts.deferred(), deadline.for_cleaning_up(docker.DISCARD_S):
                server.discard()
            raise
        server.leave_running()
    print(_announcement(name, server), flush=True)
    return {**deployment, "target": _target(server), **server.facts()}


def _seconds(values: Mapping[str, Any]) -> float | None:
    return values["timeout"] / 1000 if "timeout" in values else None


def _start(name: str, options: LocalOptions, device: str) -> LocalServer:
    if options.runtime == "docker":
        return docker.start(
            name, options.port, options.data_dir, options.start_timeout, image=options.image, device=device
        )
    return embedded.start(
        name, options.port, options.data_dir, options.start_timeout, embedded.http_port(options.http_port)
    )


def _deploy(
    server: LocalServer, name: str, model_uri: str, flavor: str | None, config: Mapping[str, Any]
) -> dict[str, Any]:
    from mlflow_redisai.client import RedisAIClient

    client = RedisAIClient(_target(server))
    deployment: dict[str, Any] = client.create_deployment(name, model_uri, flavor, config)
    client.get_deployment(name)  # checks that the server knows the deployment
    return deployment


def _target(server: LocalServer) -> str:
    return f"redisai://{ports.HOST}:{server.port}/0"


def _announcement(name: str, server: LocalServer) -> str:
    facts = server.facts()
    lines = [
        f"{name} runs on {_target(server)} ({server.describe()})",
        f"  predict: mlflow deployments predict -t {_target(server)} --name {name} -I rows.json",
        *(f"  {label + ':':8} {value}" for label, value in facts.items()),
    ]
    return "\n".join(lines)
