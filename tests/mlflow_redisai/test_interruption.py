"""An interrupted create or update, at any point: nothing of it stays, and the old model keeps serving."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mlflow_redisai import RedisAIClient
from redisai_engine.codec.record import record_key
from support.hostile_models import save_trap
from support.interrupted import COMMAND_LINE, Stopping, stopping
from support.saved_models import save_large, save_multiplication
from support.servers import Server
from support.waiting import is_running, wait_until

pytestmark = pytest.mark.slow

Keys = Callable[[str], list[str]]

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
EXIT_CODES = {signal.SIGINT: 1, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGKILL: -signal.SIGKILL}

ROWS = np.array([[1.0, 2.0]], np.float32)


@pytest.fixture(scope="module")
def doubling(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_multiplication(tmp_path_factory.mktemp("models") / "doubling", 2.0).uri


@pytest.fixture(scope="module")
def tripling(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_multiplication(tmp_path_factory.mktemp("models") / "tripling", 3.0).uri


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_large(tmp_path_factory.mktemp("models") / "large", 2.0).uri


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name that only this test uses."""
    return f"interrupted:{abs(hash(request.node.name))}"


def interrupt(process: int | None, number: int) -> None:
    assert process is not None
    os.kill(process, number)


def expiring(engine: Server, keys: list[str]) -> list[str]:
    """Return the keys that expire within the promised time."""
    return [key for key in keys if ":verify:" in key and 0 < engine.client().pttl(key) <= 90_000]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_create_interrupted_while_it_verifies_leaves_nothing(
    engine: Server, keys: Keys, name: str, doubling: str, number: signal.Signals
) -> None:
    """A killed process can't clean up. The model it staged expires on its own, and is hidden until then."""
    with stopping("verify", engine.target, "create_deployment", name, doubling) as process:
        [aside] = keys(name)
        assert expiring(engine, [aside]) == [aside]
        assert aside not in [row["name"] for row in RedisAIClient(engine.target).list_deployments()]
        interrupt(process.process.pid, number)

        assert process.ended() == EXIT_CODES[number]

    assert keys(name) == ([aside] if number == signal.SIGKILL else [])


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("point", ["upload on trial", "upload under the name"])
def test_a_create_interrupted_while_it_uploads_leaves_nothing(  # noqa: PLR0917  # fixtures
    engine: Server, keys: Keys, name: str, large: str, point: str, number: signal.Signals
) -> None:
    """
    Not even a killed process leaves anything: half a command has no effect, and the transaction ends with the
    connection.
    """
    with stopping(point, engine.target, "create_deployment", name, large) as process:
        assert keys(name) == []
        interrupt(process.process.pid, number)

        assert process.ended() == EXIT_CODES[number]

    assert keys(name) == []


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_create_interrupted_while_it_converts_leaves_nothing(  # noqa: PLR0917  # fixtures
    engine: Server, keys: Keys, name: str, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a killed process leaves anything: neither what the model has started nor temporary files."""
    model, temporary = save_trap("hang", tmp_path), tmp_path / "temporary"
    temporary.mkdir()
    process = Stopping("conversion", engine.target, "create_deployment", name, model, TMPDIR=str(temporary))
    try:
        wait_until((tmp_path / "processes").exists, timeout_s=240, what="the model to hang")
        started = [int(pid) for pid in (tmp_path / "processes").read_text().split()]
        assert all(map(is_running, started))
        interrupt(process.process.pid, number)

        assert process.ended() == EXIT_CODES[number]
    finally:
        process.close()

    wait_until(lambda: not any(map(is_running, started)), what="the end of what the model has started")
    wait_until(lambda: list(temporary.iterdir()) == [], what="the removal of temporary files")
    assert keys(name) == []


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_create_interrupted_while_it_is_committed_leaves_nothing(
    engine: Server, keys: Keys, name: str, doubling: str, number: signal.Signals
) -> None:
    """EXEC can't be revoked. What was carried out is undone; a killed process leaves either everything or nothing."""
    with stopping("exec", engine.target, "create_deployment", name, doubling) as process:
        interrupt(process.process.pid, number)
        process.go_on()

        assert process.ended() == EXIT_CODES[number]

    if number == signal.SIGKILL:
        assert engine.client().exists(name, record_key(name.encode())) in (0, 2)
    else:
        assert keys(name) == []


def complaints(errors: Path) -> list[str]:
    """Return what a command has written to standard error, besides warnings of libraries."""
    return [line for line in errors.read_text().splitlines() if line.strip() and " WARNING " not in line]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("point", ["verify", "upload on trial", "upload under the name", "exec"])
def test_a_command_that_is_interrupted_leaves_one_line_and_nothing_else(  # noqa: PLR0917  # fixtures
    engine: Server, keys: Keys, name: str, doubling: str, large: str, point: str, number: signal.Signals, tmp_path: Path
) -> None:
    errors, model = str(tmp_path / "errors"), large if point.startswith("upload") else doubling
    words = ("create", "-t", engine.target, "--name", name, "-m", model)

    with stopping(point, engine.target, COMMAND_LINE, errors, *words) as process:
        interrupt(process.process.pid, number)
        process.go_on()
        assert process.ended() == 128 + number

    assert complaints(Path(errors)) == [f"creating the deployment '{name}' was interrupted by {number.name}"]
    assert keys(name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("command", ["create", "run-local"])
def test_a_command_that_is_interrupted_while_it_converts_leaves_one_line(  # noqa: PLR0917  # fixtures
    engine: Server, keys: Keys, name: str, command: str, number: signal.Signals, tmp_path: Path
) -> None:
    """Of run-local, neither the server nor its folder stays."""
    errors, model, data = str(tmp_path / "errors"), save_trap("hang", tmp_path), tmp_path / "data"
    words = [command, "-t", engine.target if command == "create" else "redisai", "--name", name, "-m", model]
    if command == "run-local":
        words += ["-C", "port=0", "-C", f"data_dir={data}"]
    process = Stopping("conversion", engine.target, COMMAND_LINE, errors, *words)
    try:
        wait_until((tmp_path / "processes").exists, timeout_s=240, what="the model to hang")
        started = [int(pid) for pid in (tmp_path / "processes").read_text().split()]
        if command == "run-local":
            started.append(int((data / "engine.pid").read_text()))
        interrupt(process.process.pid, number)
        assert process.ended() == 128 + number
    finally:
        process.close()

    assert [line.partition(" was interrupted by ")[2] for line in complaints(Path(errors))] == [number.name]
    wait_until(lambda: not any(map(is_running, started)), what="the end of all that was started")
    assert keys(name) == []
    assert not data.exists()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_an_update_interrupted_while_it_verifies_leaves_the_old_model(  # noqa: PLR0917  # fixtures
    engine: Server, client: RedisAIClient, keys: Keys, name: str, doubling: str, tripling: str, number: signal.Signals
) -> None:
    client.create_deployment(name, doubling)
    before = client.get_deployment(name)

    with stopping("verify", engine.target, "update_deployment", name, tripling) as process:
        interrupt(process.process.pid, number)
        assert process.ended() == EXIT_CODES[number]

    assert client.get_deployment(name) == before
    assert client.predict(name, ROWS)["predictions"]["y"].tolist() == [[2.0, 4.0]]
    assert len(keys(name)) - len(expiring(engine, keys(name))) == 2


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_an_update_interrupted_while_it_is_committed_leaves_one_whole_deployment(  # noqa: PLR0917  # fixtures
    engine: Server, client: RedisAIClient, keys: Keys, name: str, doubling: str, tripling: str, number: signal.Signals
) -> None:
    client.create_deployment(name, doubling)

    with stopping("exec", engine.target, "update_deployment", name, tripling) as process:
        interrupt(process.process.pid, number)
        process.go_on()
        assert process.ended() == EXIT_CODES[number]

    factor = {doubling: 2.0, tripling: 3.0}[client.get_deployment(name)["model_uri"]]
    assert client.predict(name, ROWS)["predictions"]["y"].tolist() == [[factor, 2 * factor]]
    assert len(keys(name)) == 2


def test_a_model_stored_aside_by_a_killed_process_expires(engine: Server, keys: Keys, name: str, doubling: str) -> None:
    """The test shortens the expiry so that it doesn't have to wait for it."""
    with stopping("verify", engine.target, "create_deployment", name, doubling) as process:
        interrupt(process.process.pid, signal.SIGKILL)
        process.ended()
    [aside] = keys(name)

    engine.client().pexpire(aside, 1)

    wait_until(lambda: keys(name) == [], what="the expiry")
    assert RedisAIClient(engine.target).create_deployment(name, doubling)["name"] == name


@pytest.mark.parametrize("point", ["verify", "exec"])
def test_a_server_that_is_gone_in_the_middle_leaves_a_whole_or_nothing(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], name: str, doubling: str, point: str
) -> None:
    redis = new_redis()
    engine = new_engine("--redis", redis.url)

    with stopping(point, engine.target, "create_deployment", name, doubling) as process:
        engine.process.kill()
        engine.process.wait()
        process.go_on()
        assert process.ended() in (0, 1)

    left = redis.client()
    assert left.exists(name, record_key(name.encode())) in (0, 2)
    assert all(left.pttl(key) > 0 for key in left.keys("*:verify:*"))


def test_a_lost_reply_to_exec_is_looked_up(engine: Server, client: RedisAIClient, name: str, doubling: str) -> None:
    """The change was carried out and only the reply was lost. So the create has succeeded and says so."""
    others = {row["id"] for row in engine.client().client_list()}

    with stopping("exec", engine.target, "create_deployment", name, doubling) as process:
        wait_until(lambda: engine.client().exists(name) == 1, what="the change")
        for row in engine.client().client_list():
            if row["id"] not in others:
                engine.client().execute_command("CLIENT", "KILL", "ID", row["id"])
        process.go_on()
        assert process.ended() == 0

    assert client.predict(name, ROWS)["predictions"]["y"].tolist() == [[2.0, 4.0]]


def test_what_a_model_is_stored_aside_for_is_nobodys_model(
    tmp_path: Path, client: RedisAIClient, doubling: str
) -> None:
    """Nobody can deploy under a name that belongs to the plugin."""
    with pytest.raises(Exception, match="keys that start with mlflow-redisai: are reserved for the plugin"):
        client.create_deployment("mlflow-redisai:{x}:verify:1", doubling)
