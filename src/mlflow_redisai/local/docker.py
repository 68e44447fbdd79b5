"""
runtime=docker: a RedisAI image in a container, controlled with the `docker` command.

Theory of operation. Every container has a label with an id of the call that made it. By that label it is found and
removed, at whichever moment an interrupt arrives. Containers are created without `--rm`, so that one that fails to
start stays long enough for its log to be read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

from mlflow_redisai import deadline, interrupts
from mlflow_redisai.local import ports
from mlflow_redisai.local.errors import LOG_LINES, BadDataFolder, NoDocker, NoImage, ServerThere, StartFailed

IMAGE_CPU = "redislabs/redisai:1.2.7-cpu-bionic"
IMAGE_GPU = "redislabs/redisai:1.2.7-gpu-bionic"
LABEL = "mlflow-redisai.run"
CONTAINER_PORT = 6379
DAEMON = "Error response from daemon: "
LOOK_EVERY_S = 0.1
DISCARD_S = 60.0  # how long removing the container may take when the call's time is over
COMMAND_TIMEOUT_S = 120.0  # for all docker commands except `pull`


class DockerServer:
    """A running container. `discard()` removes it, along with its anonymous volumes."""

    def __init__(self, run_id: str, name: str, image: str, data_dir: Path | None) -> None:
        self.run_id = run_id
        self.name = name
        self.image = image
        self.data_dir = data_dir
        self.port = 0

    def describe(self) -> str:
        return f"{self.image}, container {self.name}"

    def facts(self) -> dict[str, str]:
        data = {"data": str(self.data_dir)} if self.data_dir else {}
        return {"stop": f"docker rm -f {self.name}", "log": f"docker logs {self.name}", **data}

    def leave_running(self) -> None:
        """Do nothing: the Docker daemon keeps the container running."""

    def discard(self) -> None:
        found = _docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}={self.run_id}")
        for container in found.stdout.split():
            _docker("rm", "--force", "--volumes", container)


def image_for(device: str) -> str:
    """Return RedisAI's last released image for the device. The tag is exact, because the tag `latest` is broken."""
    return IMAGE_GPU if device.upper().startswith("GPU") else IMAGE_CPU


def start(  # an argument for each option
    name: str, port: int, data_dir: str | None, start_timeout_s: float, *, image: str | None, device: str
) -> DockerServer:
    """Start a container that publishes the port on 127.0.0.1 (0: any free port). Return once Redis answers."""
    _require_docker()
    image = image or image_for(device)
    folder = _data_folder(data_dir)
    server = DockerServer(uuid.uuid4().hex, container_name(name), image, folder)
    # Checked before the image is pulled, which may take minutes.
    _refuse_if_taken(server.name)
    _require_image(image)
    try:
        _create(server, port, gpu=device.upper().startswith("GPU"))
        _start(server, port)
        server.port = _published_port(server)
        _wait_until_ready(server, start_timeout_s)
    except BaseException:
        with interrupts.deferred(), deadline.for_cleaning_up(DISCARD_S):
            server.discard()
        raise
    return server


def container_name(deployment: str) -> str:
    """
    Return `mlflow-redisai-<deployment>`.

    A name that is long or has characters that Docker refuses is shortened and cleaned. A digest keeps it unique then.
    """
    if re.fullmatch(r"[a-zA-Z0-9_.-]{1,100}", deployment):
        return f"mlflow-redisai-{deployment}"
    plain = re.sub(r"[^a-zA-Z0-9_.-]", "-", deployment)[:60]
    return f"mlflow-redisai-{plain}-{hashlib.sha256(deployment.encode()).hexdigest()[:8]}"


def _docker(*arguments: str, timeout_s: float | None = COMMAND_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            timeout=deadline.at_most(timeout_s),
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        deadline.check()
        raise NoDocker(f"`docker {arguments[0]}` didn't finish within {timeout_s:g} s", "check its daemon") from error


def _complaint(result: subprocess.CompletedProcess[str]) -> str:
    """
    Return the most informative line of docker's output: the daemon's error, or else the last one that isn't advice.
    """
    lines = [line.strip().rstrip(".") for line in result.stderr.splitlines() if line.strip()]
    said = [line.removeprefix(DAEMON) for line in lines if line.startswith(DAEMON)]
    said += [line for line in reversed(lines) if not line.startswith(("See 'docker", "Run 'docker", DAEMON))]
    return said[0] if said else f"exit code {result.returncode}"


def _require_docker() -> None:
    if shutil.which("docker") is None:
        raise NoDocker("there is no `docker` command on the PATH", "install it")
    result = _docker("version", "--format", "{{.Server.Version}}")
    if result.returncode != 0:
        raise NoDocker(f"its daemon doesn't respond ({_complaint(result)})", "start it")


def _refuse_if_taken(container: str) -> None:
    if _docker("container", "inspect", container).returncode == 0:
        raise ServerThere(f"container {container} from an earlier run-local exists", f"docker rm -f {container}")


def _data_folder(data_dir: str | None) -> Path | None:
    if data_dir is None:
        return None
    path = Path(data_dir).expanduser().absolute()
    if not path.is_dir():
        raise BadDataFolder(data_dir, "it must be an existing folder to be mounted in a container")
    return path


def _require_image(image: str) -> None:
    if _docker("image", "inspect", image).returncode == 0:
        return
    print(f"Pulling {image} (only once; RedisAI's images are about 1 GB) ...", file=sys.stderr, flush=True)
    result = _docker("pull", "--quiet", image, timeout_s=None)
    if result.returncode != 0:
        raise NoImage(image, _complaint(result))


def create_arguments(server: DockerServer, port: int, *, gpu: bool) -> list[str]:
    """Return the words of the `docker` command that creates the container."""
    options = ["--name", server.name, "--label", f"{LABEL}={server.run_id}"]
    # With an empty host port, Docker chooses a free one.
    options += ["--publish", f"{ports.HOST}:{port or ''}:{CONTAINER_PORT}"]
    # RedisAI's images don't know it. In one that has the engine, this machine's clients come from Docker's bridge.
    options += ["--env", "REDISAI_ENGINE_PROTECTED_MODE=no"]
    if gpu:
        options += ["--gpus", "all"]
    if server.data_dir:
        options += ["--volume", f"{server.data_dir}:/data"]
    return ["create", *options, server.image]


def _create(server: DockerServer, port: int, *, gpu: bool) -> None:
    result = _docker(*create_arguments(server, port, gpu=gpu))
    if result.returncode != 0:
        raise StartFailed(f"the container of image {server.image}", f"can't be created ({_complaint(result)})")


def _start(server: DockerServer, port: int) -> None:
    result = _docker("start", server.name)
    if result.returncode != 0:
        raise StartFailed(
            f"the container of image {server.image}", f"can't be started on port {port} ({_complaint(result)})"
        )


def _published_port(server: DockerServer) -> int:
    result = _docker("port", server.name, str(CONTAINER_PORT))
    address = result.stdout.split("\n", maxsplit=1)[0].strip()
    if not address:  # a container that has exited publishes no port
        _refuse_if_dead(server)
        raise StartFailed(f"the container of image {server.image}", "publishes no port")
    return int(address.rpartition(":")[2])


def _refuse_if_dead(server: DockerServer) -> None:
    result = _docker("container", "inspect", "--format", "{{json .State}}", server.name)
    state = json.loads(result.stdout) if result.returncode == 0 else {}
    if not state.get("Running"):
        log = _docker("logs", "--tail", str(LOG_LINES), server.name)
        raise StartFailed(
            f"the container of image {server.image}",
            f"exited at startup with exit code {state.get('ExitCode', 'unknown')}",
            log.stdout + log.stderr,
        )


def _wait_until_ready(server: DockerServer, timeout_s: float) -> None:
    last = time.monotonic() + timeout_s
    while not ports.answers_ping(server.port):
        _refuse_if_dead(server)
        deadline.check()
        if time.monotonic() > last:
            log = _docker("logs", "--tail", str(LOG_LINES), server.name)
            raise StartFailed(
                f"the container of image {server.image}",
                f"didn't answer a Redis command within {timeout_s:g} s (change the limit with -C start_timeout=...)",
                log.stdout + log.stderr,
            )
        time.sleep(LOOK_EVERY_S)
