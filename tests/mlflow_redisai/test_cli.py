"""The `mlflow deployments` command as a user types it, each in its own process, on one store and one engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_redisai import target_help
from support.mlflow_models import LoggedModel
from support.servers import Server
from support.waiting import free_port

pytestmark = pytest.mark.slow

SECRET = "s3cr3t"


def test_a_deployment_from_creation_to_deletion(cli, engine: Server, wine: LoggedModel, tmp_path: Path) -> None:
    """Create, get, list, predict to the screen and to a file, update with a model and with options, delete."""
    target = ("-t", engine.target)
    rows = tmp_path / "rows.json"
    rows.write_text(wine.frame.to_json(orient="records"))
    expected = {"predictions": wine.expected().tolist()}

    created = cli("deployments", "create", *target, "--name", "cli", "-m", wine.uri, "-C", "batchsize=4")
    got = cli("deployments", "get", *target, "--name", "cli")
    listed = cli("deployments", "list", *target)
    predicted = cli("deployments", "predict", *target, "--name", "cli", "-I", str(rows))
    cli("deployments", "predict", *target, "--name", "cli", "-I", str(rows), "-O", str(tmp_path / "answer.json"))
    updated = cli("deployments", "update", *target, "--name", "cli", "-m", wine.uri, "-f", "sklearn")
    retagged = cli("deployments", "update", *target, "--name", "cli", "-C", "tag=a=b")
    shown = cli("deployments", "get", *target, "--name", "cli")
    deleted = cli("deployments", "delete", *target, "--name", "cli")
    missing = cli.run("deployments", "get", *target, "--name", "cli")

    assert "sklearn deployment cli is created" in created.stdout
    lines = dict(line.split(": ", 1) for line in got.stdout.splitlines() if ": " in line)
    assert (lines["name"], lines["flavor"], lines["backend"]) == ("cli", "sklearn", "ONNX")
    assert (lines["batchsize"], lines["model_uri"]) == ("4", wine.uri)
    assert "'status': 'passed'" in lines["verification"]
    assert "'name': 'cli'" in listed.stdout
    assert json.loads(predicted.stdout.splitlines()[-1]) == expected
    assert json.loads((tmp_path / "answer.json").read_text()) == expected
    assert "Deployment cli is updated (with flavor sklearn)" in updated.stdout
    assert "Deployment cli is updated (with flavor sklearn)" in retagged.stdout
    assert "tag: a=b" in shown.stdout
    assert "batchsize: 4" in shown.stdout
    assert "Deployment cli is deleted" in deleted.stdout
    assert missing.returncode == 1
    assert "no model named 'cli' is deployed on" in missing.stderr


def test_the_target_comes_from_the_environment(cli, engine: Server) -> None:
    """`-t redisai` alone, as in the examples."""
    listed = cli.with_environment(REDIS_PORT=str(engine.port))("deployments", "list", "-t", "redisai")

    assert "List of all deployments:" in listed.stdout


def test_help_is_printed(cli) -> None:
    assert target_help() in cli("deployments", "help", "-t", "redisai").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("create", "--name", "x", "-m", "models:/wine@champion", "-C", "batchsize=-1"),
            "option batchsize='-1' is not allowed; it must be a whole number, 0 or greater",
        ),
        (
            ("create", "--name", "x", "-m", "models:/wine@champion"),
            (
                "can't reach Redis at 127.0.0.1:{port}: Error 111 connecting to 127.0.0.1:{port}. Connection "
                "refused. Check that the server is running, and the target's host, port and tls."
            ),
        ),
    ],
)
def test_an_error_ends_with_its_sentence_and_without_the_password(
    cli, arguments: tuple[str, ...], message: str
) -> None:
    port = free_port()
    command, *rest = arguments

    result = cli.run("deployments", command, "-t", f"redisai://me:{SECRET}@127.0.0.1:{port}/0", *rest)

    assert result.returncode == 1
    told = result.stderr.splitlines()[-1]
    assert told.startswith("Error: ")
    assert message.format(port=port) in told
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stdout + result.stderr


def test_a_wrong_password_ends_with_its_sentence_and_is_not_shown(
    cli, new_redis: Callable[..., Server], new_engine: Callable[..., Server]
) -> None:
    engine = new_engine("--redis", new_redis().url)
    engine.client().execute_command("ACL", "SETUSER", "me", "on", ">right", "~*", "+@all")

    result = cli.run("deployments", "list", "-t", f"redisai://me:{SECRET}@127.0.0.1:{engine.port}")

    assert result.returncode == 1
    assert "rejected the user name or password: invalid username-password pair" in result.stderr
    assert SECRET not in result.stdout + result.stderr
