"""A Redis that isn't there yet when the engine starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.connection import Connect
from support.replies import OK
from support.servers import Server, redis_server_binary
from support.waiting import free_port, wait_until

BUSY = "--loading-process-events-interval-bytes", "1024"


def test_without_the_setting_the_engine_ends_at_once(new_engine: Callable[..., Server]) -> None:
    with pytest.raises(AssertionError, match="can't be reached: Connection refused"):
        new_engine("--redis", f"redis://127.0.0.1:{free_port()}")


def test_a_redis_that_starts_later_is_waited_for(tmp_path: Path) -> None:
    """What the engine waits for is told on standard output, where the ready line comes later."""
    port = free_port()
    engine = subprocess.Popen(
        [sys.executable, "-m", "redisai_engine", "--port", "0", "--wait-for-redis", "60"],
        env={**os.environ, "REDISAI_ENGINE_REDIS": f"redis://127.0.0.1:{port}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert engine.stdout is not None
    waiting = engine.stdout.readline()
    redis = subprocess.Popen(
        [redis_server_binary(), "--port", str(port), "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL
    )
    try:
        ready = engine.stdout.readline()
    finally:
        for process in (engine, redis):
            process.terminate()
            process.wait()
        engine.stdout.close()

    assert waiting == f"waiting: Redis at redis://127.0.0.1:{port} can't be reached: Connection refused\n"
    assert ready.startswith("ready: 127.0.0.1:")


def test_a_redis_that_loads_its_data_is_waited_for(
    new_redis: Callable[..., Server], new_engine: Callable[..., Server], connect: Connect, tmp_path: Path
) -> None:
    """Redis goes on loading until the engine has said that it waits."""
    redis = new_redis("--enable-debug-command", "yes", "--key-load-delay", "100000", *BUSY)
    direct, loading, log = connect(redis), connect(redis), tmp_path / "engine1" / "engine.log"
    assert direct.ask("DEBUG POPULATE 1000 k 2000") == OK
    loading.send("DEBUG RELOAD")
    wait_until(lambda: direct.ask("PING").startswith(b"-LOADING"))

    with ThreadPoolExecutor(1) as starting:
        started = starting.submit(new_engine, "--redis", redis.url)
        wait_until(lambda: log.exists() and "loads its data; the engine waits for it" in log.read_text())
        assert direct.ask("CONFIG SET key-load-delay 0") == OK
        engine = started.result()

    assert loading.reply() == OK
    assert connect(engine).ask("SET k 1") == OK
