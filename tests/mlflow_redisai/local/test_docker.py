"""runtime=docker against a real daemon: what runs, and that no failure leaves a container behind."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from mlflow_redisai.local import docker, ports
from mlflow_redisai.local.errors import BadDataFolder, NoDocker, NoImage, ServerThere, StartFailed

Image = Callable[..., str]


@pytest.fixture
def no_container_left(docker_daemon: None) -> Iterator[None]:
    """Fail the test if it leaves a container of run-local behind."""
    before = containers()
    yield
    assert containers() == before


def containers() -> list[str]:
    asked = ["docker", "ps", "--all", "--quiet", "--filter", f"label={docker.LABEL}"]
    return sorted(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split())


class Start(Protocol):
    def __call__(
        self, name: str, image: str, *, data_dir: str | None = None, timeout_s: float = 60
    ) -> docker.DockerServer: ...


@pytest.fixture
def start() -> Iterator[Start]:
    """docker.start on any free port. A server that is still running at the end of the test is discarded."""
    with contextlib.ExitStack() as started:

        def launch(name: str, image: str, *, data_dir: str | None = None, timeout_s: float = 60) -> docker.DockerServer:
            server = docker.start(name, 0, data_dir, timeout_s, image=image, device="CPU")
            started.callback(server.discard)
            return server

        yield launch


def test_the_image_follows_from_the_device() -> None:
    assert docker.image_for("CPU") == "redislabs/redisai:1.2.7-cpu-bionic"
    assert docker.image_for("GPU:1") == "redislabs/redisai:1.2.7-gpu-bionic"


def test_a_container_is_named_after_its_deployment() -> None:
    assert docker.container_name("wine-2.1") == "mlflow-redisai-wine-2.1"


def test_names_that_docker_refuses_stay_different_from_each_other() -> None:
    one, other = docker.container_name("wine/1"), docker.container_name("wine:1")

    assert one.startswith("mlflow-redisai-wine-1-")
    assert one != other


@pytest.mark.parametrize(
    ("port", "gpu", "data_dir", "published", "more"),
    [
        (7000, False, None, "127.0.0.1:7000:6379", []),
        (0, True, None, "127.0.0.1::6379", ["--gpus", "all"]),
        (0, False, Path("/data/of mine"), "127.0.0.1::6379", ["--volume", "/data/of mine:/data"]),
    ],
)
def test_the_container_is_reached_from_this_machine_only_and_lets_it_in(
    *, port: int, gpu: bool, data_dir: Path | None, published: str, more: list[str]
) -> None:
    """Docker's bridge is another machine to an engine in the container, so its protected mode is off there."""
    server = docker.DockerServer("id", "mlflow-redisai-wine", "image:1", data_dir)

    assert docker.create_arguments(server, port, gpu=gpu) == [
        *("create", "--name", "mlflow-redisai-wine", "--label", f"{docker.LABEL}=id", "--publish", published),
        *("--env", "REDISAI_ENGINE_PROTECTED_MODE=no", *more, "image:1"),
    ]


def test_without_a_docker_command_the_way_out_is_named(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoDocker) as raised:
        start("wine", "image:1")

    assert raised.value.message == (
        "runtime=docker needs Docker, but there is no `docker` command on the PATH: install it, "
        "or use runtime=embedded, which needs no Docker"
    )


@pytest.mark.docker
@pytest.mark.usefixtures("docker_daemon")
def test_a_daemon_that_does_not_answer_is_named(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")

    with pytest.raises(NoDocker, match=r"its daemon doesn't respond \(.*nobody.sock.*\): start it, or use runtime=emb"):
        start("wine", "image:1")


@pytest.mark.docker
@pytest.mark.usefixtures("docker_daemon", "no_container_left")
def test_an_image_that_cannot_be_pulled_is_named(start: Start) -> None:
    with pytest.raises(
        NoImage, match=r"the image localhost:1/none:1 is not on this machine and can't be pulled \(.+\)"
    ):
        start("wine", "localhost:1/none:1")


@pytest.mark.docker
@pytest.mark.usefixtures("no_container_left")
def test_a_container_that_ends_at_its_start_is_an_error_with_its_last_words(start: Start, image: Image) -> None:
    dying = image("shell", "echo module not found; exit 3")

    with pytest.raises(StartFailed) as raised:
        start("wine", dying)

    assert raised.value.message == (
        f"the container of image {dying} exited at startup with exit code 3; the last lines of its log: module not "
        "found"
    )


@pytest.mark.docker
@pytest.mark.usefixtures("no_container_left")
def test_a_container_in_which_no_redis_answers_is_given_up(start: Start, image: Image) -> None:
    silent = image("shell", "echo thinking; exec sleep 600")

    with pytest.raises(StartFailed) as raised:
        start("wine", silent, timeout_s=1)

    assert raised.value.message == (
        f"the container of image {silent} didn't answer a Redis command within 1 s (change the limit with "
        "-C start_timeout=...); the last lines of its log: thinking"
    )


@pytest.mark.docker
@pytest.mark.usefixtures("no_container_left")
def test_a_program_that_the_image_does_not_have_is_an_error_of_the_start(start: Start, image: Image) -> None:
    """Docker refuses to start the container, which was already created."""
    empty = image("no-program")

    with pytest.raises(StartFailed, match=r"can't be started on port 0 \(.*no-such-program.*\)"):
        start("wine", empty)


@pytest.mark.docker
@pytest.mark.usefixtures("no_container_left")
def test_a_start_gives_a_server_that_answers_and_tells_how_to_stop_it(start: Start, image: Image) -> None:
    server = start("wine", image("redis"))

    assert ports.answers_ping(server.port)
    assert server.describe() == f"{image('redis')}, container mlflow-redisai-wine"
    assert server.facts() == {"stop": "docker rm -f mlflow-redisai-wine", "log": "docker logs mlflow-redisai-wine"}

    subprocess.run(server.facts()["stop"].split(), check=True, capture_output=True)

    assert ports.is_free(server.port)


@pytest.mark.docker
@pytest.mark.usefixtures("no_container_left")
def test_the_container_of_an_earlier_run_is_left_alone(start: Start, image: Image) -> None:
    earlier = start("wine", image("redis"))

    with pytest.raises(ServerThere) as raised:
        start("wine", image("redis"))

    assert raised.value.message == (
        "container mlflow-redisai-wine from an earlier run-local exists: deploy to it with `mlflow deployments "
        "create` or `update`, or stop it with `docker rm -f mlflow-redisai-wine`"
    )
    assert ports.answers_ping(earlier.port)


@pytest.mark.docker
@pytest.mark.usefixtures("docker_daemon", "no_container_left")
def test_a_data_directory_must_exist(start: Start, tmp_path: Path) -> None:
    with pytest.raises(BadDataFolder) as raised:
        start("wine", "image:1", data_dir=str(tmp_path / "none"))

    assert raised.value.message == (
        f"data_dir={tmp_path}/none can't be used (it must be an existing folder to be mounted in a container): "
        "choose a folder that you can write to"
    )


@pytest.mark.docker
@pytest.mark.usefixtures("no_container_left")
def test_the_data_directory_is_the_containers_data_folder(start: Start, image: Image, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("seen inside")
    server = start("wine", image("redis"), data_dir=str(tmp_path))

    mounted = subprocess.run(
        [
            "docker",
            "container",
            "inspect",
            "--format",
            "{{range .Mounts}}{{.Source}} {{.Destination}}{{end}}",
            server.name,
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert mounted.stdout.strip() == f"{tmp_path} /data"
    assert server.facts()["data"] == str(tmp_path)
