"""The engine as a detached process: what starting it creates, and that a failed start leaves the machine as it was."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mlflow_redisai.local import embedded, ports
from mlflow_redisai.local.errors import BadDataFolder, ServerThere, StartFailed
from support.waiting import accepts_connections, wait_until

Start = Callable[..., embedded.EmbeddedServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """embedded.start. A server that is still running at the end of the test is discarded."""
    with contextlib.ExitStack() as started:

        def launch(
            name: str, port: int, data_dir: str | None, timeout_s: float, http_port: int | None = None
        ) -> embedded.EmbeddedServer:
            server = embedded.start(name, port, data_dir, timeout_s, http_port)
            started.callback(server.discard)
            return server

        yield launch


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return every path below a folder, with the content of its files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_a_start_gives_a_server_that_answers_and_tells_how_to_stop_it(start: Start, tmp_path: Path) -> None:
    server = start("wine", 0, str(tmp_path / "data"), 60)

    assert ports.answers_ping(server.port)
    assert server.facts() == {
        "stop": f"kill {server.process.pid}",
        "data": str(tmp_path / "data"),
        "log": str(tmp_path / "data" / "engine.log"),
    }
    assert server.describe() == f"redisai-engine, process {server.process.pid}"
    assert embedded.running_engine(tmp_path / "data") == server.process.pid


def test_the_command_that_it_tells_does_stop_the_server(start: Start, tmp_path: Path) -> None:
    server = start("wine", 0, str(tmp_path / "data"), 60)
    server.leave_running()

    assert os.system(server.facts()["stop"]) == 0

    wait_until(lambda: not accepts_connections(server.port), what="the end of the server")
    wait_until(lambda: embedded.running_engine(tmp_path / "data") is None, what="the end of the process")
    assert server.process.wait(30) == 0


def test_it_tells_where_it_serves_http(start: Start, tmp_path: Path) -> None:
    port = embedded.http_port(0)
    server = start("wine", 0, str(tmp_path / "data"), 60, port)

    assert port is not None
    assert server.facts()["http"] == f"http://127.0.0.1:{port}"
    assert accepts_connections(port)


def test_without_data_dir_the_data_is_in_a_new_temporary_folder(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    server = start("a/b c", 0, None, 60)

    assert server.folder.path.parent == tmp_path
    assert server.folder.path.name.startswith("mlflow-redisai-a-b-c-")
    server.discard()
    assert snapshot(tmp_path) == {}


def test_what_is_taken_back_leaves_no_process_and_no_folder(start: Start, tmp_path: Path) -> None:
    """That includes the folders above the data directory that were created for it."""
    server = start("wine", 0, str(tmp_path / "new" / "data"), 60)

    server.discard()

    assert not accepts_connections(server.port)
    assert snapshot(tmp_path) == {}


def test_what_was_in_the_data_directory_before_stays(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    server = start("wine", 0, str(tmp_path), 60)

    server.discard()

    assert snapshot(tmp_path) == {"mine.txt": b"kept"}


def test_its_files_are_nobody_elses_in_a_folder_that_others_read(start: Start, tmp_path: Path) -> None:
    """The log may have what models print."""
    (tmp_path / "mine.txt").write_text("kept")
    tmp_path.chmod(0o755)

    start("wine", 0, str(tmp_path), 60)

    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir() if path.is_file()}
    assert {"engine.log", "engine.pid"} < files.keys()
    assert {mode for name, mode in files.items() if name != "mine.txt"} == {0o600}


def test_it_follows_no_link_that_lies_where_its_files_will_be(start: Start, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("kept")
    data = tmp_path / "data"
    data.mkdir()
    for name in ("engine.log", "engine.pid"):
        (data / name).symlink_to(mine)

    start("wine", 0, str(data), 60)

    assert mine.read_text() == "kept"
    assert not any((data / name).is_symlink() for name in ("engine.log", "engine.pid"))


def test_a_server_that_ends_at_its_start_is_an_error_with_its_last_words(start: Start, tmp_path: Path) -> None:
    """Here another program takes the port between run-local's check and the engine's bind."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(
            StartFailed, match=f"the engine exited at startup with exit code .*; the last lines of its log: .*{port}"
        ):
            start("wine", port, str(tmp_path / "data"), 60)

    assert snapshot(tmp_path) == {}


def test_a_server_that_is_not_ready_in_time_is_taken_back(start: Start, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"the engine wasn't ready after 0.001 s \(.* with -C start_timeout=...\)"):
        start("wine", 0, str(tmp_path / "data"), 0.001)

    assert snapshot(tmp_path) == {}


def test_a_data_directory_serves_one_engine_at_a_time(start: Start, tmp_path: Path) -> None:
    server = start("wine", 0, str(tmp_path), 60)
    pid = server.process.pid

    with pytest.raises(ServerThere) as raised:
        start("wine", 0, str(tmp_path), 60)

    assert raised.value.message == (
        f"data_dir={tmp_path} is used by a running engine, process {pid}: deploy to it with "
        f"`mlflow deployments create` or `update`, or stop it with `kill {pid}`"
    )
    assert ports.answers_ping(server.port)


def test_a_file_in_the_place_of_the_data_directory_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BadDataFolder) as raised:
        start("wine", 0, str(tmp_path / "file"), 60)

    assert raised.value.message == (
        f"data_dir={tmp_path}/file can't be used (File exists): choose a folder that you can write to"
    )


def test_the_process_id_of_another_program_is_not_taken_for_an_engine(tmp_path: Path) -> None:
    """After the machine has restarted, any process may have the number in engine.pid."""
    (tmp_path / "engine.pid").write_text(f"{os.getpid()}\n")

    assert embedded.running_engine(tmp_path) is None


def test_settings_of_the_environment_do_not_lead_the_engine_elsewhere(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISAI_ENGINE_REDIS", "redis://127.0.0.1:1/0")

    server = start("wine", 0, str(tmp_path / "data"), 60)

    assert ports.answers_ping(server.port)


@pytest.mark.parametrize(("said", "expected"), [({}, 0), ({"REDISAI_ENGINE_WORKERS": "2"}, 2)], ids=["default", "said"])
def test_it_is_one_process_unless_the_environment_asks_for_workers(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], expected: int
) -> None:
    monkeypatch.delenv("REDISAI_ENGINE_WORKERS", raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)

    server = start("wine", 0, str(tmp_path / "data"), 60)

    below = psutil.Process(server.process.pid).children()
    assert len([child for child in below if "redisai_engine" in child.cmdline()]) == expected
