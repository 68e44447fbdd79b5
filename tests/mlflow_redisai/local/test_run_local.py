"""run-local as users call it: one command, then a server that predicts; or one error message, and nothing left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.deployments import get_deploy_client, run_local
from mlflow.exceptions import MlflowException

from mlflow_redisai.local import embedded, ports
from support.mlflow_models import LoggedModel
from support.servers import Server
from support.waiting import accepts_connections, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder for an engine's data. An engine that still runs on it is stopped at the end."""
    folder = tmp_path / "data"
    yield folder
    stop(folder)


def stop(folder: Path) -> None:
    pid = embedded.running_engine(folder)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: embedded.running_engine(folder) is None, what="the engine's end")


def engines_below(folder: Path) -> list[str]:
    """Return the command lines of all processes that name a path below the folder: engines, and their redis-servers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and "pytest" not in line:
            found.append(line)
    return found


# -- embedded -------------------------------------------------------------------------------------


def test_one_command_starts_a_server_that_predicts_until_the_told_command_stops_it(
    cli: Callable[..., subprocess.CompletedProcess[str]], wine: LoggedModel, data_dir: Path
) -> None:
    """The whole path from the command line. The printed commands work as shown."""
    output = cli(
        *("deployments", "run-local", "-t", "redisai", "--name", "wine", "-m", wine.uri),
        *("-C", "port=0", "-C", f"data_dir={data_dir}", "-C", "tag=v1"),
    ).stdout

    found = re.search(r"wine runs on (redisai://127\.0\.0\.1:(\d+)/0) \(redisai-engine, process (\d+)\)", output)
    assert found, output
    target, port, pid = found.groups()
    assert f"predict: mlflow deployments predict -t {target} --name wine -I rows.json" in output
    assert f"stop:    kill {pid}" in output
    assert f"log:     {data_dir}/engine.log" in output

    client = get_deploy_client(target)
    assert client.get_deployment("wine")["name"] == "wine"
    answer = client.predict("wine", wine.frame).get_predictions()
    assert list(answer) == list(wine.expected())

    subprocess.run(["kill", pid], check=True)
    wait_until(lambda: not accepts_connections(int(port)), what="the end of the server")
    wait_until(lambda: engines_below(data_dir) == [], what="the end of its processes")


def test_from_python_it_returns_the_deployment_and_where_it_runs(wine: LoggedModel, data_dir: Path) -> None:
    from mlflow_redisai import run_local

    deployment = run_local("wine", wine.uri, config={"port": 0, "data_dir": str(data_dir)})

    assert deployment["name"] == "wine"
    assert deployment["flavor"] == "sklearn"
    assert deployment["data"] == str(data_dir)
    assert deployment["stop"] == f"kill {embedded.running_engine(data_dir)}"
    assert get_deploy_client(deployment["target"]).get_deployment("wine")["flavor"] == "sklearn"
    with urllib.request.urlopen(f"{deployment['http']}/v2/models/wine") as answer:
        assert json.load(answer)["name"] == "wine"
    with urllib.request.urlopen(deployment["http"]) as page:
        assert b'href="/live/deployments/wine"' in page.read()


def test_a_port_with_a_plain_redis_names_the_engine_as_the_way_out(wine: LoggedModel, redis_server: Server) -> None:
    port = redis_server.port

    with pytest.raises(MlflowException) as raised:
        run_local("redisai", "wine", wine.uri, config={"port": port})

    assert raised.value.message == (
        f"port {port} is taken by a Redis server without AI commands: put the engine in front of it with "
        f"`redisai-engine --port {port + 1} --redis redis://127.0.0.1:{port}`, "
        "or choose another port with -C port=... (0: any free port)"
    )
    assert raised.value.error_code == "RESOURCE_CONFLICT"


def test_run_twice_on_one_port_names_create_as_the_way_out(wine: LoggedModel, data_dir: Path) -> None:
    from mlflow_redisai import run_local

    first = run_local("wine", wine.uri, config={"port": 0, "data_dir": str(data_dir)})
    port = int(first["target"].rpartition(":")[2].removesuffix("/0"))

    with pytest.raises(MlflowException) as raised:
        run_local("wine", wine.uri, config={"port": port})

    assert raised.value.message == (
        f"port {port} is taken by a Redis server with AI commands: deploy to it with "
        f"`mlflow deployments create -t redisai://127.0.0.1:{port} --name wine -m ...`, "
        "or choose another port with -C port=... (0: any free port)"
    )
    assert get_deploy_client(first["target"]).get_deployment("wine")["name"] == "wine"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"port": "http"}, "option port='http' is not allowed; it must be a whole number from 0 to 65535"),
        ({"runtime": "podman"}, "option runtime='podman' is not allowed; it must be embedded or docker"),
        ({"image": "redisai:1"}, "option image='redisai:1' needs runtime=docker; set both, or omit image"),
        (
            {"runtime": "docker", "http_port": "80"},
            "option http_port=80 needs runtime=embedded: RedisAI speaks no HTTP",
        ),
    ],
)
def test_a_bad_option_is_refused_before_anything_starts(
    config: dict[str, str], message: str, wine: LoggedModel, data_dir: Path
) -> None:
    with pytest.raises(MlflowException) as raised:
        run_local("redisai", "wine", wine.uri, config={"data_dir": str(data_dir), **config})

    assert raised.value.message == message
    assert not data_dir.exists()


def test_a_model_that_is_not_there_leaves_no_server(mlflow_store: str, data_dir: Path) -> None:
    with pytest.raises(MlflowException, match="nobody"):
        run_local("redisai", "wine", "models:/nobody@champion", config={"port": 0, "data_dir": str(data_dir)})

    assert engines_below(data_dir) == []
    assert not data_dir.exists()


def test_a_name_that_is_in_the_data_directory_already_leaves_it_as_it_was(wine: LoggedModel, data_dir: Path) -> None:
    """create's rule: an existing deployment is never overwritten. Its data is kept for the next start."""
    from mlflow_redisai import run_local

    run_local("wine", wine.uri, config={"port": 0, "data_dir": str(data_dir)})
    stop(data_dir)

    with pytest.raises(MlflowException) as raised:
        run_local("wine", wine.uri, config={"port": 0, "data_dir": str(data_dir)})

    assert raised.value.error_code == "RESOURCE_ALREADY_EXISTS"
    assert engines_below(data_dir) == []
    again = run_local("other", wine.uri, config={"port": 0, "data_dir": str(data_dir)})
    assert [row["name"] for row in get_deploy_client(again["target"]).list_deployments()] == ["other", "wine"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_while_it_deploys_leaves_nothing(
    number: signal.Signals, wine: LoggedModel, data_dir: Path, tmp_path: Path
) -> None:
    """No process, no data, no temporary file."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "deployments", "run-local", "-t", "redisai", "--name", "wine"),
            *("-m", wine.uri, "-C", "port=0", "-C", f"data_dir={data_dir}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    pid_file = data_dir / embedded.PID
    wait_until(lambda: pid_file.exists() or process.poll() is not None, timeout_s=90, what="the engine's start")

    process.send_signal(number)
    output, _ = process.communicate(timeout=60)

    assert process.returncode != 0, output
    assert engines_below(tmp_path) == []
    assert not data_dir.exists()
    assert list(temporary.iterdir()) == []


# -- docker ---------------------------------------------------------------------------------------


@pytest.mark.docker
def test_a_container_with_the_engine_serves_the_model_until_it_is_removed(
    cli: Callable[..., subprocess.CompletedProcess[str]], wine: LoggedModel, image: Callable[..., str]
) -> None:
    output = cli(
        *("deployments", "run-local", "-t", "redisai", "--name", "wine-docker", "-m", wine.uri),
        *("-C", "runtime=docker", "-C", f"image={image('engine')}", "-C", "port=0"),
    ).stdout

    found = re.search(r"wine-docker runs on (redisai://127\.0\.0\.1:(\d+)/0) \(.*container (\S+)\)", output)
    assert found, output
    target, port, container = found.groups()
    answer = get_deploy_client(target).predict("wine-docker", wine.frame).get_predictions()
    assert list(answer) == list(wine.expected())

    stop_command = re.search(r"stop: +(docker rm -f \S+)", output)
    assert stop_command
    assert stop_command[1].endswith(container)
    subprocess.run(stop_command[1].split(), check=True, capture_output=True)
    assert ports.is_free(int(port))


@pytest.mark.docker
def test_a_container_that_refuses_the_model_is_removed(wine: LoggedModel, image: Callable[..., str]) -> None:
    """Here it runs a plain Redis, as when an image's command is overridden and the module isn't loaded."""
    config = {"runtime": "docker", "image": image("redis"), "port": 0}

    with pytest.raises(MlflowException, match="has no AI commands"):
        run_local("redisai", "wine-refused", wine.uri, config=config)

    asked = ["docker", "ps", "--all", "--quiet", "--filter", "name=mlflow-redisai-wine-refused"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.docker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_while_the_container_starts_removes_it(
    number: signal.Signals, wine: LoggedModel, image: Callable[..., str]
) -> None:
    silent = image("shell", "echo thinking; exec sleep 600")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "deployments", "run-local", "-t", "redisai", "--name", "wine-stopped"),
            *("-m", wine.uri, "-C", "runtime=docker", "-C", f"image={silent}", "-C", "port=0"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def container() -> str:
        asked = ["docker", "ps", "--all", "--quiet", "--filter", "name=mlflow-redisai-wine-stopped"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    wait_until(lambda: container() or process.poll() is not None, timeout_s=90, what="the container")

    process.send_signal(number)
    output, _ = process.communicate(timeout=60)

    assert process.returncode != 0, output
    assert container() == ""
